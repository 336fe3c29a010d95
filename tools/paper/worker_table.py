# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains one pipeline of four cells over one process, two and four workers.

The losses must agree in every bit, and each worker must hold the weights of its
cells and no others; else the exit status is 1. Printed are the step times, and
for each process its weights and its peak of memory, without what imports take.

Each run is the trainer's own command, or the launcher's; what they print and
write is read:

    events of TensorBoard   the loss of each step
    log of the trainer      the times of its parts, see `stage_times`
    output                  weights and peak memory of each worker
"""

import dataclasses
import os
import pathlib
import re
import tempfile
from collections.abc import Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.training import stage_times
from tools.common import command, fresh

_EXAMPLES = """\
  tools/worker_table.py                            25 million weights
  tools/worker_table.py --steps 3 --model tools.paper.worker_model.Tiny
"""
NUM_CELLS = 4
_MIB = 2**20
# Cell, device, layers, cost, parameters, ...
_CELL_ROW = re.compile(r'^\| \d+ (?:[^|]*\|){4} +([\d,]+) \|', re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Worker:
  """What a worker process holds.

  Attributes:
    weights_mib: Its weights, in MiB to three places, as the trainer says; ''
      if it says nothing.
    peak_mib: The most memory it had, without what imports take, in MiB.
  """

  weights_mib: str
  peak_mib: float


@dataclasses.dataclass(frozen=True)
class Run:
  """One training.

  Attributes:
    num_workers: Worker processes; 0: all in the trainer's process.
    losses: {step: loss}.
    stages: The trainer's times.
    workers: The workers; for num_workers=0 only memory, of the one process.
    cells: Bytes of each cell's weights.
  """

  num_workers: int
  losses: dict[int, float]
  stages: stage_times.StageTimes
  workers: tuple[Worker, ...]
  cells: tuple[int, ...]

  @property
  def name(self) -> str:
    """How many processes, in words."""
    return f'{self.num_workers} workers' if self.num_workers else '1 process'


def _command(
  num_workers: int, model: str, steps: int, logdir: pathlib.Path
) -> list[str]:
  flags = [f'--model={model}', f'--logdir={logdir}', f'--max_steps={steps}']
  if not num_workers:
    return [
      *('lingvo_gpipe.trainer', *flags, '--run_locally=cpu'),
      f'--worker_split_size={NUM_CELLS}',
    ]
  return [
    'lingvo_gpipe.launch_local',
    f'--workers={num_workers}',
    f'--devices_per_worker={NUM_CELLS // num_workers}',
    *('--no-controller', '--max_restarts=0', '--', *flags),
  ]


def run(
  num_workers: int, model: str, steps: int, directory: pathlib.Path
) -> Run:
  """Trains a model as a pipeline of NUM_CELLS cells, each on a device.

  Args:
    num_workers: See `Run`; divides NUM_CELLS.
    model: A registered model, its random_seed set.
    steps: How many steps.
    directory: For the run's files.

  Raises:
    ProcessError: It failed.
  """
  logdir = directory / f'workers_{num_workers}'
  module, *args = _command(num_workers, model, steps, logdir)
  output, _ = fresh.run_module(module, *args)
  log = logdir / ('log_trainer_client_0.txt' if num_workers else 'log.txt')
  try:
    stages = stage_times.from_text(log.read_text(errors='replace'))
    workers = _workers(num_workers, output, stages)
    cells = cell_weight_bytes(output)
  except (OSError, ValueError) as error:
    raise fresh.failed(f'{module} {args}: {error}', output) from error
  return Run(num_workers, losses(logdir / 'train'), stages, workers, cells)


def _workers(
  num_workers: int, output: str, stages: stage_times.StageTimes
) -> tuple[Worker, ...]:
  if not num_workers:
    own = stages.peak_memory - stages.loaded_memory
    return (Worker('', own / _MIB),)
  weights = re.findall(r'/job:worker/task:\d+ ([\d.]+) \(', output)
  peaks = re.findall(r'\bworker \d+ (\d+)', output.splitlines()[-1])
  if not len(weights) == len(peaks) == num_workers:
    raise ValueError('it does not say what the workers hold')
  # The launcher names those first that it ended first, the last worker.
  return tuple(
    Worker(mib, float(peak))
    for mib, peak in zip(weights, reversed(peaks), strict=True)
  )


def losses(train_dir: pathlib.Path) -> dict[int, float]:
  """The loss of each step, a float32, of TensorBoard's events."""
  # TensorFlow greets, and calls what reads events an old way to do it.
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  import tensorflow.compat.v1 as tf

  tf.logging.set_verbosity(tf.logging.ERROR)
  found = {}
  for path in sorted(train_dir.glob('events*')):
    for event in tf.train.summary_iterator(str(path)):
      for value in event.summary.value:
        if value.tag == 'loss':
          found[event.step] = value.simple_value
  return found


def cell_weight_bytes(output: str) -> tuple[int, ...]:
  """Bytes of each cell's weights, float32, of the table that a trainer prints.

  Raises:
    ValueError: It is not there.
  """
  rows = _CELL_ROW.findall(output)
  if len(rows) != NUM_CELLS:
    raise ValueError(f'it shows {len(rows)} cells, not {NUM_CELLS}')
  return tuple(4 * int(row.replace(',', '')) for row in rows)


def _cells_of(num_workers: int, worker: int) -> range:
  each = NUM_CELLS // max(1, num_workers)
  return range(worker * each, (worker + 1) * each)


def share_mib(found: Run, worker: int) -> str:
  """What a worker's cells weigh, as the trainer would say it."""
  cells = _cells_of(found.num_workers, worker)
  return f'{sum(found.cells[k] for k in cells) / _MIB:.3f}'


def problems(runs: Sequence[Run], steps: int) -> list[str]:
  """What is not as it must be, in words."""
  found = []
  for r in runs:
    if sorted(r.losses) != list(range(1, steps + 1)):
      found.append(f'{r.name}: losses of steps {sorted(r.losses)} only')
    different = [s for s in r.losses if r.losses[s] != runs[0].losses.get(s)]
    if different:
      found.append(f'{r.name}: other losses at steps {different}')
    for w in range(r.num_workers):
      held, share = r.workers[w].weights_mib, share_mib(r, w)
      if held != share:
        found.append(
          f'{r.name}: worker {w} holds {held} MiB of weights, its cells have '
          f'{share}'
        )
  return found


def as_text(runs: Sequence[Run]) -> str:
  """Two tables: of the runs, and of what each process holds."""
  steps = text_table.table(
    ['one pipeline over', 'median step, s', 'first step, s', 'last loss'],
    [
      [
        r.name,
        f'{r.stages.median_step:.3f}',
        f'{r.stages.first_step:.2f}',
        repr(r.losses[max(r.losses)]),
      ]
      for r in runs
    ],
  )
  held = text_table.table(
    ['process', 'cells', 'weights, MiB', "its cells' weights", 'peak, MiB'],
    [
      [
        f'{r.name}: {w}' if r.num_workers else r.name,
        ', '.join(map(str, _cells_of(r.num_workers, w))),
        worker.weights_mib,
        share_mib(r, w),
        f'{worker.peak_mib:.0f}',
      ]
      for r in runs
      for w, worker in enumerate(r.workers)
    ],
  )
  return f'{steps}\n\n{held}'


def _parser() -> command.Parser:
  parser = command.Parser('tools/worker_table.py', __doc__, _EXAMPLES)
  parser.flag(
    'model',
    'tools.paper.worker_model.Wide',
    'A registered model, its random_seed set and its cut left open.',
  )
  parser.flag('steps', 10, 'Steps of each training.')
  parser.flag(
    'workers',
    '0,2,4',
    'Worker processes, with commas; 0: one process.',
    command.numbers,
  )
  parser.outputs('tables')
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; 0 if all is as it must be."""
  parser = _parser()
  args = parser.parse_args(argv)
  if not args.workers or not set(args.workers) <= {0, 1, 2, NUM_CELLS}:
    parser.error(
      f'--workers {args.workers}: numbers such as 0,2,4, each of which divides '
      f'the {NUM_CELLS} cells, or 0'
    )
  if args.steps < 2:
    parser.error(f'--steps {args.steps}: 2 or more, the first is not timed')
  wrong: list[str] = []

  def measure() -> tuple[str, dict[str, Any]]:
    runs = []
    with tempfile.TemporaryDirectory(prefix='worker_table_') as directory:
      for number in args.workers:
        runs.append(
          run(number, args.model, args.steps, pathlib.Path(directory))
        )
        command.say(f'  {runs[-1].name}: {runs[-1].stages.total:.0f} s')
    wrong.extend(problems(runs, args.steps))
    verdict = '\n'.join(wrong) or (
      f'All {args.steps} losses are bit-identical; each worker holds the '
      'weights of its cells.'
    )
    figures = [dataclasses.asdict(found) for found in runs]
    text = f'{as_text(runs)}\n\n{verdict}'
    return text, {'runs': figures, 'problems': wrong}

  note = f'\n\n{args.model}, {args.steps} steps:'
  return command.report(parser, args, measure, note) or int(bool(wrong))
