# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times whole trainings, by this trainer and by Lingvo's, from start to end.

Both train the same model for the same number of steps, by turns, each in a
process of its own. Beside the time of the command stands what cannot be left
out: imports, building the graph, the first step, in which TensorFlow optimises
the graph, and the other steps at their median. Printed are medians.
"""

import dataclasses
import pathlib
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.training import stage_times
from tools.common import command, fresh

_EXAMPLES = """\
  tools/training_times.py                          60 steps, twice, by turns
  tools/training_times.py --steps 5 --rounds 1     does it run?
  tools/training_times.py --trainers ours --devices 2
"""
TRAINERS = {
  'ours': 'lingvo_gpipe.trainer',
  'lingvo': 'tools.benchmark.lingvo_trainer',
}
_TITLES = {'ours': TRAINERS['ours'], 'lingvo': "Lingvo's trainer"}


@dataclasses.dataclass(frozen=True)
class Training:
  """A training, timed from start to end, and what it says of its parts."""

  seconds: float
  stages: stage_times.StageTimes

  @property
  def ratio(self) -> float:
    """All of it over what imports, graph building and steps take."""
    return self.seconds / self.stages.needed

  def figures(self) -> dict[str, float]:
    """Each figure, by its name in the table."""
    stages = self.stages
    return {
      'command to end, s': self.seconds,
      'imports, s': stages.loading,
      'graph building, s': stages.graph,
      'first step, s': stages.first_step,
      'further steps, s': stages.more_steps * stages.median_step,
      'all else, s': self.seconds - stages.needed,
      'ratio to imports + graph + steps': self.ratio,
    }


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
  """Trains a registered model by one of TRAINERS; ProcessError: it failed."""
  with tempfile.TemporaryDirectory(prefix='training_times_') as logdir:
    program = [
      *(TRAINERS[trainer], f'--model={model}', f'--logdir={logdir}'),
      *('--run_locally=cpu', *_flags(trainer, steps, devices)),
    ]
    text, seconds = fresh.run_module(*program)
    log = pathlib.Path(logdir, 'log.txt')
    if log.exists():
      text += log.read_text(errors='replace')
  try:
    return Training(seconds, stage_times.from_text(text))
  except ValueError as error:
    raise fresh.failed(f'{program}: {error}', text) from error


def as_text(found: Mapping[str, Sequence[Training]]) -> str:
  """A table of medians, with a column for each trainer."""
  columns = [[t.figures() for t in trainings] for trainings in found.values()]
  rows = [
    [row, *(f'{statistics.median(t[row] for t in c):.2f}' for c in columns)]
    for row in columns[0][0]
  ]
  return text_table.table(['', *(_TITLES[name] for name in found)], rows)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command; returns its exit status."""
  parser = command.Parser('tools/training_times.py', __doc__, _EXAMPLES)
  flag, positive = parser.flag, command.positive
  flag('model', 'image.digits.AmoebaNetD', 'A registered model.')
  flag('steps', 60, 'Steps of a training.', positive)
  flag('rounds', 2, 'How often the trainers take turns.', positive)
  flag('devices', 1, "CPU devices of ours; Lingvo's trainer has one.", positive)
  kind = command.one_of(TRAINERS)
  flag('trainers', ','.join(TRAINERS), 'Which trainers, with commas.', kind)
  parser.outputs()
  args = parser.parse_args(argv)

  def measure() -> Iterator[tuple[str, dict[str, Any]]]:
    found: dict[str, list[Training]] = {t: [] for t in args.trainers}
    for number in range(1, args.rounds + 1):
      for name, trainings in found.items():
        trainings.append(run(name, args.model, args.steps, args.devices))
        seconds = trainings[-1].seconds
        command.say(f'  {number}/{args.rounds} {name}: {seconds:.1f} s')
    figures = {
      name: [{**dataclasses.asdict(t), 'ratio': t.ratio} for t in trainings]
      for name, trainings in found.items()
    }
    yield as_text(found), {'trainings': figures}

  note = (
    f'\n\n{args.model}, {args.steps} steps, {args.devices} device(s) '
    f'(Lingvo 1), medians of {args.rounds}:'
  )
  return command.report(parser, args, measure(), note)
