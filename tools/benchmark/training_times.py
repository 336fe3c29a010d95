# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times whole trainings, by this trainer and by Lingvo's, from start to end.

Both train the same model for the same number of steps, by turns, each in a
process of its own. Beside the time of the command stands what cannot be left
out: imports, building the graph, the first step, in which TensorFlow optimises
the graph, and the other steps at their median. Printed are medians.
"""

import dataclasses
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.training import stage_times
from tools.benchmark import command, conditions

_EXAMPLES = """\
  tools/training_times.py                          60 steps, twice, by turns
  tools/training_times.py --steps 5 --rounds 1     does it run?
  tools/training_times.py --trainers ours --devices 2
"""
TRAINERS = {
  'ours': 'lingvo_gpipe.trainer',
  'lingvo': 'tools.benchmark.lingvo_trainer',
}
_SHOWN_LINES = 15


class TrainingError(RuntimeError):
  """A training failed."""


@dataclasses.dataclass(frozen=True)
class Training:
  """A training, timed.

  Attributes:
    seconds: From the start of its process to the end.
    stages: What it says of its parts.
  """

  seconds: float
  stages: stage_times.StageTimes

  @property
  def ratio(self) -> float:
    """All of it over what imports, graph building and steps take."""
    return self.seconds / self.stages.needed


def _flags(trainer: str, steps: int, devices: int) -> list[str]:
  if trainer == 'ours':
    return [f'--max_steps={steps}', f'--worker_split_size={devices}']
  # Lingvo's has no flag for the steps, and one CPU device.
  return [
    '--mode=sync',
    f'--model_params_override=train.max_steps:{steps};'
    f'task.train.max_steps:{steps}',
  ]


def run(trainer: str, model: str, steps: int, devices: int) -> Training:
  """Trains a model in a process of its own.

  Args:
    trainer: One of TRAINERS.
    model: A registered model.
    steps: How many steps.
    devices: CPU devices of the pipeline; Lingvo's trainer has one.

  Raises:
    TrainingError: It failed.
  """
  with tempfile.TemporaryDirectory(prefix='training_times_') as directory:
    logdir = pathlib.Path(directory)
    output = logdir / 'output.txt'
    program = [
      *(sys.executable, '-m', TRAINERS[trainer]),
      *(f'--model={model}', f'--logdir={logdir}', '--run_locally=cpu'),
      *_flags(trainer, steps, devices),
    ]
    environment = {
      **os.environ,
      'CUDA_VISIBLE_DEVICES': '',
      'PYTHONPATH': os.pathsep.join(filter(None, sys.path)),
    }
    with output.open('wb') as stream:
      started = time.monotonic()
      status = subprocess.run(
        program, stdout=stream, stderr=stream, env=environment, check=False
      ).returncode
      seconds = time.monotonic() - started
    text = output.read_text(errors='replace')
    log = logdir / 'log.txt'
    if log.exists():
      text += log.read_text(errors='replace')
  try:
    if status:
      raise ValueError(f'exit status {status}')
    return Training(seconds, stage_times.from_text(text))
  except ValueError as error:
    last = '\n'.join(text.splitlines()[-_SHOWN_LINES:])
    raise TrainingError(f'{" ".join(program)}: {error}\n{last}') from error


def median(trainings: Sequence[Training]) -> dict[str, float]:
  """The median of each figure, by its name in the table."""
  rows = [
    {
      'command to end, s': t.seconds,
      'imports, s': t.stages.loading,
      'graph building, s': t.stages.graph,
      'first step, s': t.stages.first_step,
      'further steps, s': t.stages.more_steps * t.stages.median_step,
      'all else, s': t.seconds - t.stages.needed,
      'ratio to imports + graph + steps': t.ratio,
    }
    for t in trainings
  ]
  return {name: statistics.median(r[name] for r in rows) for name in rows[0]}


def as_text(found: Mapping[str, Sequence[Training]]) -> str:
  """A table with a column for each trainer."""
  medians = {name: median(trainings) for name, trainings in found.items()}
  header = ['', *(TRAINERS[name] for name in medians)]
  header = [
    "Lingvo's trainer" if title == TRAINERS['lingvo'] else title
    for title in header
  ]
  rows = [
    [row, *(f'{values[row]:.2f}' for values in medians.values())]
    for row in next(iter(medians.values()))
  ]
  return text_table.table(header, rows)


def _parser() -> command.Parser:
  parser = command.Parser('tools/training_times.py', __doc__, _EXAMPLES)
  flag, positive = parser.flag, command.positive
  flag('model', 'image.digits.AmoebaNetD', 'A registered model.')
  flag('steps', 60, 'Steps of a training.', positive)
  flag('rounds', 2, 'How often the trainers take turns.', positive)
  flag('devices', 1, "CPU devices of ours; Lingvo's trainer has one.", positive)
  flag(
    'trainers',
    ','.join(TRAINERS),
    'Which trainers, with commas.',
    command.one_of(TRAINERS),
  )
  parser.outputs()
  return parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = _parser()
  args = parser.parse_args(argv)
  machine = conditions.now()
  text = (
    f'{conditions.describe(machine)}\n\n{args.model}, {args.steps} steps, '
    f'{args.devices} device(s) (Lingvo 1), medians of {args.rounds}:'
  )
  print(text, flush=True)
  found: dict[str, list[Training]] = {t: [] for t in args.trainers}
  try:
    for number in range(args.rounds):
      for trainer, trainings in found.items():
        trainings.append(run(trainer, args.model, args.steps, args.devices))
        command.say(
          f'  {number + 1}/{args.rounds} {trainer}: '
          f'{trainings[-1].seconds:.1f} s'
        )
  except TrainingError as error:
    return parser.failed(error)
  table = as_text(found)
  print(f'\n{table}')
  figures = {
    name: [{**dataclasses.asdict(t), 'ratio': t.ratio} for t in trainings]
    for name, trainings in found.items()
  }
  command.write(
    args,
    f'{text}\n\n{table}',
    {'conditions': machine, 'trainings': figures},
  )
  return 0
