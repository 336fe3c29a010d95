# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The flags of a command, whether it has them from argparse or from absl.

A command is begun and stopped where it would read its command line: what it
defined up to there are its flags.
"""

import argparse
import contextlib
import dataclasses
import io
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

from absl import flags
from absl.testing import flagsaver

from lingvo_gpipe import trainer
from lingvo_gpipe.training import command


@dataclasses.dataclass(frozen=True)
class Command:
  """What a command says of itself, and each flag's help, by name with '--'."""

  doc: str
  flags: Mapping[str, str]


class _StoppedError(BaseException):
  """Ends a command that is about to read its command line: its argument."""


def inspect(main: Callable[..., Any]) -> Command:
  """Finds out about the command that `main` runs, by `sys.argv`.

  Raises:
    RuntimeError: it does not read a command line.
  """
  with (
    mock.patch.object(sys, 'argv', ['command']),
    contextlib.redirect_stdout(io.StringIO()),
    _stopped_at_parsing(),
  ):
    try:
      main()
    except _StoppedError as stopped:
      [found] = stopped.args
      return found
  raise RuntimeError(f'{main.__module__}.main reads no command line.')


@contextlib.contextmanager
def _stopped_at_parsing() -> Iterator[None]:
  def parse(
    parser: argparse.ArgumentParser, *args: Any, **kwargs: Any
  ) -> argparse.Namespace:
    found = {
      name: action.help or ''
      for action in parser._actions
      for name in action.option_strings
    }
    raise _StoppedError(Command(parser.description or '', found))

  def run(
    name: str,
    doc: str,
    load: Callable[[], Any],
    argv: Any = None,
    check: Any = None,
    define: Callable[[], Any] = lambda: None,
  ) -> int:
    module = sys._getframe(1).f_globals['__name__']
    with _flags_as_before(module):
      define()
      load()
      found = flags.FLAGS.get_key_flags_for_module(module)
      raise _StoppedError(Command(doc, {f'--{f.name}': f.help for f in found}))

  with (
    mock.patch.object(argparse.ArgumentParser, 'parse_args', parse),
    mock.patch.object(argparse.ArgumentParser, 'parse_known_args', parse),
    mock.patch.object(command, 'run', run),
  ):
    yield


@contextlib.contextmanager
def _flags_as_before(module: str) -> Iterator[None]:
  """Takes back what a command does to flags, and those that it defines.

  What modules define that are imported meanwhile stays: they will not be
  imported again. Lingvo's are imported before, as commands change defaults.
  """
  trainer.preload()
  before = flagsaver.save_flag_values()
  try:
    yield
  finally:
    for flag in list(flags.FLAGS.get_flags_for_module(module)):
      if flag.name not in before:
        delattr(flags.FLAGS, flag.name)
    flagsaver.restore_flag_values({**flagsaver.save_flag_values(), **before})
