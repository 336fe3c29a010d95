# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The GPipe paper's Tables 1, 2 and 3 next to the planner's.

Table 1: parameters, parameter memory and peak activation memory of the largest
models. Tables 2 and 3: throughput as simulated, with what each step is spent
on. The models are traced as they are registered and nothing is allocated; all
three tables take a few minutes of one core.
"""

import argparse
import dataclasses
import importlib.util
import pathlib
import shlex
import time
from collections.abc import Sequence

from tools.common import command
from tools.paper import facts, memory, picture, report, throughput
from tools.paper.model_costs import ModelCosts, registered_costs

_PROGRAM = 'tools/paper_tables.py'
_ALL_TABLES = '1,2,3'

_EXAMPLES = """\
  tools/paper_tables.py
  tools/paper_tables.py --tables 1 --models lm.
  tools/paper_tables.py --markdown paper.md --picture paper.png
"""


def _chosen(
  parser: argparse.ArgumentParser, tables: str, models: str
) -> tuple[list[facts.LargestModel], list[facts.Throughputs]]:
  """What of the tables is wanted."""
  wanted = {part.strip() for part in tables.split(',')}
  if not wanted <= {'1', '2', '3'}:
    parser.error(
      f'--tables={tables}: there are tables 1, 2 and 3; name them like 1,3.'
    )
  columns = [column for column in facts.TABLE_1 if '1' in wanted]
  halves = [
    half for half in facts.TABLES_2_AND_3 if half.table.split()[1] in wanted
  ]
  known = [column.model for column in columns] + [half.model for half in halves]
  columns = [column for column in columns if models in column.model]
  halves = [half for half in halves if models in half.model]
  if not columns and not halves:
    parser.error(
      f'--models={models}: no name contains that; there are {", ".join(known)}.'
    )
  return columns, halves


def _check_files(
  parser: argparse.ArgumentParser, args: argparse.Namespace
) -> None:
  """Fails now, not after minutes, if a file cannot be written."""
  for name in ('markdown', 'json', 'picture'):
    path = getattr(args, name)
    if path and not pathlib.Path(path).resolve().parent.is_dir():
      parser.error(f'--{name}={path}: there is no such folder; make it first.')
  if args.picture and not importlib.util.find_spec('matplotlib'):
    parser.error(
      f'--picture={args.picture}: pictures need matplotlib; install it with '
      "pip install 'lingvo_gpipe[pictures]'."
    )


def _costs_of(model: str, precision: str = '') -> ModelCosts:
  """Traces a model, and says so: it takes half a minute."""
  started = time.monotonic()
  found = registered_costs(model, precision)
  command.say(f'{model}: traced in {time.monotonic() - started:.0f} s')
  return found


def _memory_rows(
  columns: Sequence[facts.LargestModel],
) -> list[memory.MemoryRow]:
  found = {column.model: _costs_of(column.model) for column in columns}
  units = memory.family_units(
    {model: costs.parameters for model, costs in found.items()}
  )
  return [
    memory.memory_row(column, found[column.model], units[column.family])
    for column in columns
  ]


def _command(args: argparse.Namespace) -> str:
  """The command that prints the same, on any machine."""
  words = [_PROGRAM]
  for name in ('tables', 'models', 'markdown', 'picture'):
    value = getattr(args, name)
    if value and value != _ALL_TABLES:
      words += [f'--{name}', value]
  return shlex.join(words)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; returns its exit status."""
  parser = command.Parser(_PROGRAM, __doc__, _EXAMPLES)
  parser.flag('tables', _ALL_TABLES, 'Which of the tables, with commas.')
  parser.flag('models', '', 'Only models whose registered name contains this.')
  parser.outputs('page')
  what = 'A PNG of published and planned figures.'
  parser.add_argument('--picture', help=what)
  args = parser.parse_args(argv)
  columns, halves = _chosen(parser, args.tables, args.models)
  _check_files(parser, args)
  rows = _memory_rows(columns)
  simulated = []
  for half in halves:
    costs = _costs_of(half.model, half.precision)
    simulated.append((half, throughput.throughput_rows(half, costs)))
  shown = pathlib.Path(args.picture).name if args.picture else ''
  text = report.report(rows, simulated, _command(args), shown)
  print(text)
  figures = {
    'table_1': [
      {**dataclasses.asdict(row), 'gradient_bytes': row.gradient_bytes}
      for row in rows
    ],
    'throughput': [
      {'table': half.table, 'model': half.model, **dataclasses.asdict(row)}
      for half, of_half in simulated
      for row in of_half
    ],
  }
  command.write(args, text, figures)
  if args.picture:
    picture.draw(rows, simulated, args.picture)
  return 0
