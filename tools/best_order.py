#!/usr/bin/env python3
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Says how good the schedule 'auto' is on random pipelines; see --help."""

import pathlib
import statistics
import sys
import time

_ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_ROOT), str(_ROOT / 'tests' / 'helpers')]

import random_orders  # noqa: E402

from lingvo_gpipe import schedules  # noqa: E402
from tools.common import command  # noqa: E402

_DESCRIPTION = (
  "Compares the schedule 'auto' with the named ones that fit, and with a "
  'time that no order can go below, on random pipelines: uneven cells, '
  'transfers, one or two cells a device, limits of memory.'
)


def main() -> None:
  """Runs the program."""
  example = '  tools/best_order.py --problems 20 --first 7\n'
  parser = command.Parser('tools/best_order.py', _DESCRIPTION, example)
  parser.flag('problems', 500, 'How many.')
  parser.flag('first', 0, 'The first seed.')
  args = parser.parse_args()
  _compare(range(args.first, args.first + args.problems))
  _time_many()


def _compare(seeds: range) -> None:
  """Prints the gaps to the bound, the gain over named schedules, and times."""
  gaps, gains, seconds = [], [], []
  for seed in seeds:
    problem = random_orders.problem(seed, 6, 16)
    times = [
      problem.simulate(schedule).step_time
      for schedule in random_orders.named(problem)
      if problem.fits(schedule)
    ]
    start = time.process_time()
    best = schedules.find_best_order(problem)
    seconds.append(time.process_time() - start)
    assert problem.fits(best.schedule)
    assert best.time <= min(times, default=best.time), seed
    gaps.append(best.gap)
    if times:
      gains.append(1 - best.time / min(times))
  print(
    f'{len(gaps)} pipelines: none is longer than a named schedule that fits '
    f'({len(gains)} have one), {statistics.mean(gains):.1%} shorter on '
    'average.'
  )
  proven = sum(gap <= 1e-9 for gap in gaps)
  print(
    f'Gap to the bound: mean {statistics.mean(gaps):.2%}, largest '
    f'{max(gaps):.1%}; {proven} are proven the best.'
  )
  print(
    f'CPU seconds: mean {statistics.mean(seconds):.2f}, most '
    f'{max(seconds):.1f}.'
  )


def _time_many() -> None:
  """Prints how long it takes for many cells and micro-batches."""
  start = time.process_time()
  best = schedules.find_best_order(
    schedules.OrderProblem(
      tuple(range(8)),
      64,
      (10, 9, 12, 10, 8, 11, 10, 10),
      (11, 9, 12, 11, 8, 11, 12, 10),
      (9, 8, 13, 9, 8, 10, 10, 9),
    )
  )
  spent = time.process_time() - start
  print(f'K = 8, M = 64: {spent:.1f} CPU seconds, gap {best.gap:.2%}.')


if __name__ == '__main__':
  main()
