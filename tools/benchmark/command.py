# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the commands share: flags, the files they write, how they fail."""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from tools.benchmark import process_memory


class Parser(argparse.ArgumentParser):
  """The flags of a command; --help shows its text and examples as written."""

  def __init__(self, program: str, description: str | None, examples: str):
    """Makes a parser without flags.

    Args:
      program: As it is called from the repository's root.
      description: What the command does.
      examples: Lines of calls.
    """
    super().__init__(
      program,
      description=description,
      epilog=f'examples:\n{examples}',
      formatter_class=argparse.RawDescriptionHelpFormatter,
    )

  def flag(
    self,
    name: str,
    default: Any,
    what: str,
    kind: Callable[[str], Any] | None = None,
  ) -> None:
    """Adds --name.

    Args:
      name: The name.
      default: What it is without the flag; text is given to `kind`.
      what: Its help, to which the default is added.
      kind: Makes a value of text; by default the default's type does.
    """
    self.add_argument(
      f'--{name}',
      type=kind or type(default),
      default=default,
      help=f'{what} Default: {default}.',
    )

  def outputs(self, text: str = 'table') -> None:
    """Adds the flags of the files that `write` writes."""
    self.add_argument('--json', metavar='FILE', help='A file for all figures.')
    self.add_argument(
      '--markdown', metavar='FILE', help=f'A file for the {text}.'
    )

  def needs_linux(self) -> None:
    """Ends the command where processes' memory cannot be read."""
    if not process_memory.available():
      self.error('/proc/self/status is needed, so Linux.')

  def failed(self, error: Exception) -> int:
    """Tells of an error that is not the user's; returns the exit status."""
    print(f'{self.prog}: {error}', file=sys.stderr)
    return 1


def write(args: argparse.Namespace, text: str, value: Any) -> None:
  """Writes text and figures to the files of `Parser.outputs`, if any."""
  if args.markdown:
    path = pathlib.Path(args.markdown)
    path.write_text(text.rstrip('\n') + '\n', encoding='utf-8')
  write_json(args.json, value)


def write_json(path: str | None, value: Any) -> None:
  """Writes a value as JSON; nothing if there is no path."""
  if path:
    text = json.dumps(value, indent=2, sort_keys=True)
    pathlib.Path(path).write_text(text + '\n', encoding='utf-8')


def say(text: str) -> None:
  """Tells what is being done, beside what is found."""
  print(text, file=sys.stderr, flush=True)


# -- Kinds of flags.


def positive(text: str) -> int:
  """A whole number, 1 or more."""
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value} must be 1 or more')
  return value


def numbers(text: str) -> tuple[int, ...]:
  """Whole numbers with commas; none of ''."""
  try:
    return tuple(int(part) for part in text.split(',') if part)
  except ValueError as error:
    raise argparse.ArgumentTypeError(
      f'{text}: use whole numbers with commas, such as 2,4.'
    ) from error


def names(text: str) -> tuple[str, ...]:
  """Names with commas; none of ''."""
  return tuple(part.strip() for part in text.split(',') if part.strip())


def one_of(known: Mapping[str, Any] | tuple[str, ...]) -> Callable[[str], Any]:
  """The kind of names with commas, each of which must be known."""

  def kind(text: str) -> tuple[str, ...]:
    unknown = [name for name in names(text) if name not in known]
    if unknown or not names(text):
      wrong = ', '.join(unknown) or repr(text)
      raise argparse.ArgumentTypeError(f'{wrong} is none of {", ".join(known)}')
    return names(text)

  return kind
