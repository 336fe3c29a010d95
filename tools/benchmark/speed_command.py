# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times pipelined training steps, side by side with other ways to train.

Compared, for each model, K, M, schedule and recompute policy: this package;
Lingvo's own GPipe; naive model parallelism; no pipeline; and PyTorch's
pipelining, if there is an interpreter that has it. Every variant runs in a
process of its own; they take turns, so that all of them see the same machine.
Then each runs again with a process for each device, for its memory.
docs/benchmark.md says what the columns mean.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

from tools.benchmark import (
  command,
  conditions,
  process_memory,
  speed,
  speed_estimate,
  speed_flags,
  speed_report,
)
from tools.benchmark.fresh import ProcessError
from tools.benchmark.speed_flags import Request


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = speed_flags.parser(_program(), __doc__)
  arguments = sys.argv[1:] if argv is None else argv
  args = parser.parse_args(arguments)
  parser.needs_linux()
  try:
    request = speed_flags.wanted(args)
  except ValueError as error:
    parser.error(str(error))
  machine = conditions.now()
  seconds = speed_estimate.seconds(
    request.cases, request.plan, machine['cores']
  )
  _say(f'this takes about {max(1, round(seconds / 60))} min on a quiet machine')
  typed = _command_line(arguments)
  head = _head(machine, typed, request)
  print(head, flush=True)
  try:
    reports = _measure(request)
  except ProcessError as error:
    return parser.failed(error)
  parts = [*map(speed_report.as_text, reports), speed_report.legend(reports)]
  text = '\n\n'.join([head, *parts])
  if request.readme:
    request.readme.replace(text)
  figures = {
    'conditions': {**machine, 'alive': args.alive},
    'command': typed,
    'cases': [*map(speed_report.as_json, reports)],
  }
  command.write(args, text, figures)
  return int(any(m.error for r in reports for m in r.measured.values()))


def _program() -> str:
  """What the user typed."""
  typed = sys.argv[0]
  return os.path.basename(typed) if os.path.isabs(typed) else typed


def _command_line(arguments: Sequence[str]) -> str:
  """What was typed, but for the path of another interpreter."""
  flag, shown = '--torch_python', []
  for i, argument in enumerate(arguments):
    if argument.startswith(f'{flag}='):
      argument = f'{flag}=PYTHON'
    elif i and arguments[i - 1] == flag:
      argument = 'PYTHON'
    shown.append(argument)
  return shlex.join([_program(), *shown])


def _head(machine: dict[str, Any], typed: str, request: Request) -> str:
  """What stands above the tables."""
  lines = [conditions.describe(machine), f'`{typed}`']
  if request.plan.alive:
    lines.append('Freed blocks go back at once: peaks are exact, steps slow.')
  if request.left_out:
    lines.append(request.left_out)
  return '\n\n'.join(lines)


def _measure(request: Request) -> list[speed_report.CaseReport]:
  """Measures all cases; prints each as soon as it is there."""
  if request.plan.alive:
    os.environ.update(process_memory.ALIVE_ONLY_ENV)
  reports = []
  with speed.Benchmark(request.plan, _say) as benchmark:
    for case, variants in request.cases.items():
      report = benchmark.measure(case, variants)
      reports.append(report)
      print(f'\n{speed_report.as_text(report)}', flush=True)
  print(f'\n{speed_report.legend(reports)}', flush=True)
  return reports


def _say(text: str) -> None:
  command.say(f'  {text}')


if __name__ == '__main__':
  sys.exit(main())
