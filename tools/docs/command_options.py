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
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

from absl import flags
from absl.testing import flagsaver

from lingvo_gpipe import trainer
from lingvo_gpipe.training import command

# Flags that our commands have of Lingvo, in our words.
_LINGVO_FLAGS = {
  'cluster_spec': 'The addresses of all processes, '
  '`job=host:port,host:port@job=host:port`. See [devices](devices.md).',
  'job': 'What this process does; several with commas: `trainer_client`, '
  '`controller`, `worker`, `evaler_Test`, `decoder_Test`.',
  'logdir': 'The directory of checkpoints, summaries and logs.',
  'mode': '`sync` or `async`; `sync` where `--run_locally` or '
  '`--cluster_spec` is given.',
  'model': "The model's name: `image.digits.AmoebaNetD` is class `AmoebaNetD` "
  'in `model_params/image/digits.py`. Modules on the Python path, and of '
  '`lingvo.tasks`, are found too.',
  'model_params_override': "Values of the model's Params, `param:value` with "
  'semicolons between them.',
  'run_locally': '`cpu` or `gpu`: all in this process.',
  'task': 'The number of this process among those of its job.',
  'worker_split_size': 'The devices of one pipeline.',
}


@dataclasses.dataclass(frozen=True)
class Option:
  """One flag, or one argument without a name of its own.

  Attributes:
    names: As it is typed.
    default: Its default as text, '' for none.
    text: What it is, in Markdown.
  """

  names: tuple[str, ...]
  default: str
  text: str


@dataclasses.dataclass(frozen=True)
class Command:
  """A command.

  Attributes:
    doc: What it says of itself.
    options: Its flags.
  """

  doc: str
  options: tuple[Option, ...]


class _StoppedError(BaseException):
  """Ends a command that is about to read its command line.

  Attributes:
    command: What it is.
  """

  def __init__(self, command: Command):
    super().__init__()
    self.command = command


def inspect(main: Callable[..., Any]) -> Command:
  """Finds out about a command.

  Args:
    main: What runs it, by `sys.argv`.

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
      return stopped.command
  raise RuntimeError(f'{main.__module__}.main reads no command line.')


@contextlib.contextmanager
def _stopped_at_parsing() -> Iterator[None]:
  def parse(
    parser: argparse.ArgumentParser, *args: Any, **kwargs: Any
  ) -> argparse.Namespace:
    raise _StoppedError(_of_argparse(parser))

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
      raise _StoppedError(_of_absl(doc, module))

  with (
    mock.patch.object(argparse.ArgumentParser, 'parse_args', parse),
    mock.patch.object(argparse.ArgumentParser, 'parse_known_args', parse),
    mock.patch.object(command, 'run', run),
  ):
    yield


def _of_argparse(parser: argparse.ArgumentParser) -> Command:
  options = []
  for action in parser._actions:
    if isinstance(action, argparse._HelpAction):
      continue
    if action.help == argparse.SUPPRESS:
      continue
    default = _default_text(action.default)
    text = (action.help or '') % {'default': default}
    options.append(
      Option(
        tuple(action.option_strings) or (str(action.metavar or action.dest),),
        default,
        _without_default(text, default) + _choices_text(action.choices),
      )
    )
  return Command(parser.description or '', tuple(options))


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


def _of_absl(doc: str, module: str) -> Command:
  """A command with the flags that its --help lists: the module's key flags."""
  found = {f.name: f for f in flags.FLAGS.get_key_flags_for_module(module)}
  return Command(doc, tuple(_of_flag(found[name]) for name in sorted(found)))


def _of_flag(flag: Any) -> Option:
  defined_by = flags.FLAGS.find_module_defining_flag(flag.name, '')
  # absl puts '<a|b>: ' before the help of a choice.
  text = flag.help.removeprefix(f'<{"|".join(_choices(flag))}>: ')
  if not defined_by.startswith('lingvo_gpipe'):
    if flag.name not in _LINGVO_FLAGS:
      raise RuntimeError(
        f'--{flag.name} is a flag of {defined_by}; say what it is in '
        '_LINGVO_FLAGS.'
      )
    text = f'{_LINGVO_FLAGS[flag.name]} (Lingvo)'
  return Option(
    (f'--{flag.name}',),
    _default_text(flag.default),
    text + _choices_text(_choices(flag)),
  )


def _choices(flag: Any) -> Sequence[str]:
  return getattr(flag.parser, 'enum_values', None) or ()


def _without_default(text: str, default: str) -> str:
  """A flag's text without the default, which has a column of its own."""
  for said in (f' Default: {default}.', f' (default {default})'):
    text = text.removesuffix(said)
  return text.removeprefix(f'Default: {default}.')


def _choices_text(choices: Any) -> str:
  if not choices:
    return ''
  return ' One of ' + ', '.join(f'`{choice}`' for choice in choices) + '.'


def _default_text(default: Any) -> str:
  if default in (None, '', [], argparse.SUPPRESS):
    return ''
  if isinstance(default, list | tuple):
    return ','.join(map(str, default))
  return str(default)
