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
  conditions,
  output_files,
  process_memory,
  speed,
  speed_estimate,
  speed_flags,
  speed_report,
)
from tools.benchmark.child_process import ChildError
from tools.benchmark.speed_flags import Request


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = speed_flags.parser(_program(), __doc__)
  arguments = sys.argv[1:] if argv is None else argv
  args = parser.parse_args(arguments)
  if not process_memory.available():
    parser.error('/proc/self/status is needed, so Linux.')
  try:
    request = speed_flags.wanted(args)
  except ValueError as error:
    parser.error(str(error))
  machine = conditions.now()
  seconds = speed_estimate.seconds(
    request.cases, request.plan, machine['cores']
  )
  _say(f'this takes about {max(1, round(seconds / 60))} min on a quiet machine')
  command = _command_line(arguments)
  head = _head(machine, command, request)
  print(head, flush=True)
  try:
    reports = _measure(request)
  except ChildError as error:
    print(f'{parser.prog}: {error}', file=sys.stderr)
    return 1
  parts = [*map(speed_report.as_text, reports), speed_report.legend(reports)]
  text = '\n\n'.join([head, *parts])
  output_files.write_text(args.markdown, text)
  if request.readme:
    request.readme.replace(text)
  output_files.write_json(
    args.json,
    {
      'conditions': {**machine, 'alive': args.alive},
      'command': command,
      'cases': [*map(speed_report.as_json, reports)],
    },
  )
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


def _head(machine: dict[str, Any], command: str, request: Request) -> str:
  """What stands above the tables."""
  lines = [conditions.describe(machine), f'`{command}`']
  if request.plan.environment:
    lines.append('Freed blocks go back at once: peaks are exact, steps slow.')
  if request.left_out:
    lines.append(request.left_out)
  return '\n\n'.join(lines)


def _measure(request: Request) -> list[speed_report.CaseReport]:
  """Measures all cases; prints each as soon as it is there."""
  reports = []
  with speed.Benchmark(request.plan, _say) as benchmark:
    for case, variants in request.cases.items():
      report = benchmark.measure(case, variants)
      reports.append(report)
      print(f'\n{speed_report.as_text(report)}', flush=True)
  print(f'\n{speed_report.legend(reports)}', flush=True)
  return reports


def _say(text: str) -> None:
  print(f'  {text}', file=sys.stderr, flush=True)


if __name__ == '__main__':
  sys.exit(main())
