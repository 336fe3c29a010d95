# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains one pipeline of four cells over one process, two and four workers.

The losses must agree in every bit, and each worker must hold the weights of its
cells and no others; else the exit status is 1. Printed are the step times, and
for each process its weights and its peak of memory, without what imports take.

Each run is the trainer's own command, or the launcher's. Losses are read from
TensorBoard's events, times from the trainer's log, memory from what they print.
"""

import dataclasses
import pathlib
import re
import tempfile
from collections.abc import Iterator, Sequence
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
class Run:
  """One training.

  Attributes:
    num_workers: Worker processes; 0: all in the trainer's process.
    losses: {step: loss}.
    stages: The trainer's times.
    held: The MiB of weights that each worker holds, to three places, as the
      trainer says; '' of the one process.
    peaks: The most memory that each process had, without what imports take, in
      MiB.
    cells: Bytes of each cell's weights.
  """

  num_workers: int
  losses: dict[int, float]
  stages: stage_times.StageTimes
  held: tuple[str, ...]
  peaks: tuple[float, ...]
  cells: tuple[int, ...]

  @property
  def name(self) -> str:
    """How many processes, in words."""
    return f'{self.num_workers} workers' if self.num_workers else '1 process'

  def cells_of(self, worker: int) -> range:
    """The cells of a worker."""
    each = NUM_CELLS // max(1, self.num_workers)
    return range(worker * each, (worker + 1) * each)

  def share(self, worker: int) -> str:
    """What a worker's cells weigh, as the trainer would say it."""
    return f'{sum(self.cells[k] for k in self.cells_of(worker)) / _MIB:.3f}'


def run(
  num_workers: int, model: str, steps: int, directory: pathlib.Path
) -> Run:
  """Trains a registered model as a pipeline of NUM_CELLS cells, a device each.

  Args:
    num_workers: See `Run`; divides NUM_CELLS.
    model: Its random_seed is set.
    steps: How many steps.
    directory: For the run's files.
  """
  logdir = directory / f'workers_{num_workers}'
  flags = [f'--model={model}', f'--logdir={logdir}', f'--max_steps={steps}']
  if num_workers:
    module, log = 'lingvo_gpipe.launch_local', 'log_trainer_client_0.txt'
    devices = f'--devices_per_worker={NUM_CELLS // num_workers}'
    options = [f'--workers={num_workers}', devices, '--no-controller']
    flags = [*options, '--max_restarts=0', '--', *flags]
  else:
    module, log = 'lingvo_gpipe.trainer', 'log.txt'
    flags += ['--run_locally=cpu', f'--worker_split_size={NUM_CELLS}']
  output, _ = fresh.run_module(module, *flags)
  try:
    text = (logdir / log).read_text(errors='replace')
    stages = stage_times.from_text(text)
    held, peaks = _processes(num_workers, output, stages)
    cells = _cell_bytes(output)
  except (OSError, ValueError) as error:
    raise fresh.failed(f'{module} {flags}: {error}', output) from error
  found = losses(logdir / 'train')
  return Run(num_workers, found, stages, held, peaks, cells)


def _processes(
  num_workers: int, output: str, stages: stage_times.StageTimes
) -> tuple[tuple[str, ...], tuple[float, ...]]:
  """Weights and peak of each."""
  if not num_workers:
    return ('',), ((stages.peak_memory - stages.loaded_memory) / _MIB,)
  weights = re.findall(r'/job:worker/task:\d+ ([\d.]+) \(', output)
  peaks = re.findall(r'\bworker \d+ (\d+)', output.splitlines()[-1])
  if not len(weights) == len(peaks) == num_workers:
    raise ValueError('it does not say what the workers hold')
  # The launcher names those first that it ended first, the last worker.
  return tuple(weights), tuple(map(float, reversed(peaks)))


def losses(train_dir: pathlib.Path) -> dict[int, float]:
  """The loss of each step, a float32, of TensorBoard's events."""
  import tensorflow.compat.v1 as tf

  # It calls what reads events an old way to do it.
  tf.logging.set_verbosity(tf.logging.ERROR)
  return {
    event.step: value.simple_value
    for path in sorted(train_dir.glob('events*'))
    for event in tf.train.summary_iterator(str(path))
    for value in event.summary.value
    if value.tag == 'loss'
  }


def _cell_bytes(output: str) -> tuple[int, ...]:
  """Bytes of each cell's weights, float32, of the table that is printed."""
  rows = _CELL_ROW.findall(output)
  if len(rows) != NUM_CELLS:
    raise ValueError(f'it shows {len(rows)} cells, not {NUM_CELLS}')
  return tuple(4 * int(row.replace(',', '')) for row in rows)


def problems(runs: Sequence[Run], steps: int) -> list[str]:
  """What is not as it must be, in words."""
  found = []
  for r in runs:
    if sorted(r.losses) != list(range(1, steps + 1)):
      found.append(f'{r.name}: losses of steps {sorted(r.losses)} only')
    different = [s for s in r.losses if r.losses[s] != runs[0].losses.get(s)]
    if different:
      found.append(f'{r.name}: other losses at steps {different}')
    for w, held in enumerate(r.held):
      if held not in ('', r.share(w)):
        found.append(
          f'{r.name}: worker {w} holds {held} MiB of weights, its cells have '
          f'{r.share(w)}'
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
        ', '.join(map(str, r.cells_of(w))),
        r.held[w],
        r.share(w),
        f'{peak:.0f}',
      ]
      for r in runs
      for w, peak in enumerate(r.peaks)
    ],
  )
  return f'{steps}\n\n{held}'


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; 0 if all is as it must be."""
  parser = command.Parser('tools/worker_table.py', __doc__, _EXAMPLES)
  what = 'A registered model, its random_seed set and its cut left open.'
  parser.flag('model', 'tools.paper.worker_model.Wide', what)
  parser.flag('steps', 10, 'Steps of each training.')
  what = 'Worker processes, with commas; 0: one process.'
  parser.flag('workers', '0,2,4', what, command.numbers)
  parser.outputs('tables')
  args = parser.parse_args(argv)
  if not args.workers or not set(args.workers) <= {0, 1, 2, NUM_CELLS}:
    parser.error(
      f'--workers {args.workers}: numbers such as 0,2,4, each of which divides '
      f'the {NUM_CELLS} cells, or 0'
    )
  if args.steps < 2:
    parser.error(f'--steps {args.steps}: 2 or more, the first is not timed')
  wrong: list[str] = []

  def measure() -> Iterator[tuple[str, dict[str, Any]]]:
    runs = []
    with tempfile.TemporaryDirectory(prefix='worker_table_') as directory:
      for number in args.workers:
        path = pathlib.Path(directory)
        runs.append(run(number, args.model, args.steps, path))
        command.say(f'  {runs[-1].name}: {runs[-1].stages.total:.0f} s')
    wrong.extend(problems(runs, args.steps))
    verdict = '\n'.join(wrong) or (
      f'All {args.steps} losses are bit-identical; each worker holds the '
      'weights of its cells.'
    )
    figures = [dataclasses.asdict(found) for found in runs]
    text = f'{as_text(runs)}\n\n{verdict}'
    yield text, {'runs': figures, 'problems': wrong}

  note = f'\n\n{args.model}, {args.steps} steps:'
  return command.report(parser, args, measure(), note) or int(bool(wrong))
