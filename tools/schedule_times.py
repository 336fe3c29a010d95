#!/usr/bin/env python3
# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times schedules on pinned worker processes; see --help."""

import argparse
import dataclasses
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import TaskKind
from tools.benchmark.cases import Case

_SPLITS = [4]


def _simulated(name: str, num_micro_batches: int) -> float:
  """The time with equal F, B and W."""
  schedule = schedules.make_schedule(name, (0, 1), num_micro_batches)
  times = {
    (kind, k): 1 if kind == TaskKind.FORWARD else 2
    for kind in (TaskKind.FORWARD, TaskKind.BACKWARD)
    for k in (0, 1)
  }
  return float(schedules.simulate(schedule, times).step_time)


def main() -> None:
  """Prints each schedule's time over that of 1F1B."""
  parser = argparse.ArgumentParser(
    description=(
      'Steps of a Transformer in two cells, each on a worker process that is '
      'kept to a core, without recomputation: the schedules take turns.'
    )
  )
  parser.add_argument(
    '--steps', type=int, default=12, help='Steps of each. Default: 12.'
  )
  args = parser.parse_args()
  from tools.benchmark import worker_run  # TensorFlow, once the flags are read.

  names = ('1f1b', 'gpipe', 'zb_h1')
  case = Case('', 'transformer', 6, 256, 32, 2, 4, 64, recompute='never')
  runs = [
    dataclasses.replace(case, num_micro_batches=m, schedule=name, num_ids=8192)
    for m in (4, 8)
    for name in names
  ]
  found = worker_run.take_turns(runs, [_SPLITS] * len(runs), args.steps)
  seconds = list(map(statistics.median, found))
  print(f'{"M":>2}  {"schedule":8}  step s  over 1f1b  simulated')
  for i, (run, time) in enumerate(zip(runs, seconds, strict=True)):
    m, first = run.num_micro_batches, i - i % len(names)
    simulated = _simulated(run.schedule, m) / _simulated('1f1b', m)
    print(
      f'{m:2}  {run.schedule:8}  {time:6.3f}  {time / seconds[first]:9.3f}  '
      f'{simulated:9.3f}'
    )


if __name__ == '__main__':
  main()
