# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times whole trainings, from the command to its end, beside Lingvo's."""

import dataclasses
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from lingvo_gpipe import text_table
from lingvo_gpipe.training import stage_times

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
    command = [
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
        command, stdout=stream, stderr=stream, env=environment, check=False
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
    raise TrainingError(f'{" ".join(command)}: {error}\n{last}') from error


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


def as_text(found: dict[str, Sequence[Training]]) -> str:
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
