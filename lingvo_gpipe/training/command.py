# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the commands of this package share: flags, log and errors."""

import argparse
import contextlib
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from absl import flags

from lingvo_gpipe.cutting.partitioner import PartitionError
from lingvo_gpipe.training import logs, trainer_flags, user_error


class ArgumentParser(argparse.ArgumentParser):
  """For commands with flags of argparse: says what is wrong in one line."""

  def __init__(self, prog: str, **kwargs: Any):
    super().__init__(
      prog,
      formatter_class=argparse.RawDescriptionHelpFormatter,
      allow_abbrev=False,  # Flags of the trainer may begin alike.
      **kwargs,
    )

  def error(self, message: str) -> NoReturn:
    message = message.removesuffix('.')
    self.exit(2, f'{self.prog}: {message}; see {self.prog} --help\n')

  def number(self, name: str, default: int, text: str, least: int = 1) -> None:
    text += f' (default {default})'
    self.add_argument(name, type=at_least(least), default=default, help=text)


def at_least(least: int) -> Callable[[str], int]:
  def number(text: str) -> int:
    with contextlib.suppress(ValueError):
      if int(text) >= least:
        return int(text)
    raise argparse.ArgumentTypeError(
      f'{text} must be a whole number, {least} or more'
    )

  return number


def _parse(name, argv, check, values):
  try:
    rest = values(argv)[1:]
  # absl raises a ValueError for --noflag=value.
  except (flags.Error, ValueError) as error:
    raise user_error.UserError(str(error).replace('\n', ' ')) from error
  if rest:
    raise user_error.UserError(
      f'{rest[0]!r}: not a flag; flags start with --, see {name} --help.'
    )
  check(values)


def check_flags(name, argv, check=lambda values: None):
  """Raises UserError for what can be seen to be wrong without TensorFlow."""
  values = trainer_flags.read(argv)
  if values is not None:
    _parse(name, argv, check, values)


def _describe(name, error, log):
  """Writes the error's traceback to the log; returns lines for the terminal."""
  with contextlib.suppress(OSError):  # The disk may be full.
    os.write(2, traceback.format_exc().encode())
  kind, reason = type(error).__name__, user_error.reason(error)
  lines = [kind if reason == kind else f'{kind}: {reason}']
  place = user_error.place_in_users_code(error)
  if place:
    lines.append(f'in {place}')
  lines.append(f'the traceback is at the end of {log.path}')
  return '\n'.join(f'{name}: {line}' for line in lines)


def run(
  name, doc, load, argv=None, check=lambda values: None, define=lambda: None
):
  """Runs a command from the loading of TensorFlow to its exit status.

  `load` imports what the command needs, and returns the command: a function of
  the `RunLog` and the seconds of loading, which may return a status. Before,
  `define` defines flags that `load` doesn't, without TensorFlow, and `check` is
  given the parsed flags, and may raise a UserError.
  """
  argv = sys.argv if argv is None else argv
  wants_help = {'-h', '-help', '--help', '--helpfull'}.intersection(argv[1:])
  started = time.monotonic()
  log = logs.RunLog()
  keep = False
  try:
    define()
    if not wants_help:
      check_flags(name, argv, check)
    body = load()
    if wants_help:
      text = flags.FLAGS.main_module_help()
      text += '\n\n--helpfull lists the flags of Lingvo as well.'
      if '--helpfull' in argv:
        text = flags.FLAGS.get_help()
      print(f'{doc}\n\nFlags:\n{text}')
      return 0
    _parse(name, argv, check, flags.FLAGS)
    with logs.warnings_shown_on(log.terminal):
      return body(log, time.monotonic() - started) or 0
  except (user_error.UserError, PartitionError) as error:
    print(f'{name}: {error}', file=log.terminal)
    return getattr(error, 'exit_status', 2)
  except KeyboardInterrupt:
    print(f'\n{name}: interrupted.', file=log.terminal)
    return 130
  except Exception as error:
    keep = True
    print(_describe(name, error, log), file=log.terminal)
    return 1
  finally:
    log.close(keep)


def exit_at_once(status: int) -> NoReturn:
  """Ends the process; a session that waits for a hanging worker does not."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(status)
