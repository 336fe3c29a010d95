# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the commands share: flags, the files they write, how they fail."""

import argparse
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from absl import flags

from lingvo_gpipe.training.command import at_least
from tools.common import conditions, process_memory

T = TypeVar('T')


class MeasuringError(RuntimeError):
  """Something could not be measured, through no fault of the user."""


class Parser(argparse.ArgumentParser):
  """The flags of a command; --help shows its text and examples as written."""

  def __init__(self, program: str, description: str | None, examples: str):
    """`program` is as called from the root, `examples` are lines of calls."""
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
    """Adds --name, whose help is `what` and the default, unless that is empty.

    `kind` makes a value of text, also of a default that is text; if there is
    none, the default's type does.
    """
    self.add_argument(
      f'--{name}',
      type=kind or type(default),
      default=default,
      help=what if default in ('', ()) else f'{what} Default: {default}.',
    )

  def outputs(self, text: str = 'table') -> None:
    """Adds the flags of the files that `write` writes."""
    self.add_argument('--json', metavar='FILE', help='A file for all figures.')
    self.add_argument(
      '--markdown', metavar='FILE', help=f'A file for the {text}.'
    )

  def chosen(
    self, name: str, numbers: Sequence[int], items: Sequence[T]
  ) -> list[T]:
    """Those of the numbers, from 1, that flag `name` gives."""
    if not set(numbers) <= set(range(1, len(items) + 1)):
      self.error(f'--{name}: use numbers from 1 to {len(items)}.')
    return [items[number - 1] for number in numbers]

  def needs_linux(self) -> None:
    """Ends the command where processes' memory cannot be read."""
    if not process_memory.available():
      self.error('/proc/self/status is needed, so Linux.')


def report(
  parser: Parser,
  args: argparse.Namespace,
  found: Iterable[tuple[str, Mapping[str, Any]]],
  note: str = '',
) -> int:
  """Prints and writes what is found, under which conditions.

  `found` yields text, and all figures so far, each of which is kept whatever
  comes later; a MeasuringError makes the status 1. `note` stands above the
  text, behind the conditions.
  """
  machine = conditions.now()
  parts = [conditions.describe(machine) + note]
  print(parts[0], flush=True)
  try:
    for text, figures in found:
      parts.append(text)
      print(f'\n{text}', flush=True)
      write(args, '\n\n'.join(parts), {'conditions': machine, **figures})
  except MeasuringError as error:
    print(f'{parser.prog}: {error}', file=sys.stderr)
    return 1
  return 0


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


def parse_no_flags() -> None:
  """Lets Lingvo read absl's flags, which it does everywhere: their defaults."""
  if not flags.FLAGS.is_parsed():
    flags.FLAGS(sys.argv[:1])


# -- Kinds of flags.

positive = at_least(1)


def numbers(text: str) -> tuple[int, ...]:
  """Whole numbers with commas; none of ''."""
  try:
    return tuple(map(int, names(text)))
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
