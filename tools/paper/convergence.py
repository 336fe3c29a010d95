# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Losses of the same training, cut into different numbers of cells."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo import model_registry
from lingvo.core import cluster_factory

from lingvo_gpipe import cluster, cpu_devices
from lingvo_gpipe.training import model_lookup, pipeline_params


@dataclasses.dataclass(frozen=True)
class Curve:
  """One training run.

  Attributes:
    label: What it is, for a legend.
    losses: The loss of each step, as float32 has it.
  """

  label: str
  num_cells: int
  num_micro_batches: int
  losses: tuple[float, ...]


def losses(
  model: str,
  num_cells: int,
  num_steps: int,
  num_micro_batches: int | None = None,
  after_step: Callable[[int], None] | None = None,
) -> tuple[float, ...]:
  """The loss of each step of a training on as many CPU devices as cells.

  Args:
    model: A registered name.
    num_cells: K.
    num_steps: How many steps to train.
    num_micro_batches: M; None for the model's own.
    after_step: Called with the number of each step when it is done.

  Raises:
    UserError: There is no such model, or it has no pipeline.
  """
  params = model_registry.GetParams(model_lookup.find_model(model), 'Train')
  # Weights start alike however many cells there are.
  params.random_seed = params.task.random_seed = 1234
  if num_micro_batches is not None:
    pipeline_params.set_all(
      params.task, 'num_micro_batches', num_micro_batches, 'num_micro_batches'
    )
  found = []
  with session_of(num_cells, 'trainer_client') as session:
    tf.random.set_seed(1234)
    trained = params.Instantiate()
    trained.ConstructFPropBPropGraph()
    task = trained.GetTask()
    session.run(tf.global_variables_initializer())
    task.input.Initialize(session)
    for step in range(num_steps):
      metrics, _ = session.run([task.eval_metrics, task.train_op])
      found.append(float(metrics['loss'][0]))
      if after_step is not None:
        after_step(step + 1)
  return tuple(found)


@contextlib.contextmanager
def session_of(num_devices: int, job: str) -> Iterator[Any]:
  """A session with a graph of its own, in a cluster of CPU devices."""
  p = cluster_factory.Current().params.Copy()
  p.job, p.mode, p.do_eval = job, 'sync', job != 'trainer_client'
  for part in (p.worker, p.ps, p.controller, p.evaler):
    part.name, part.replicas = '/job:localhost', 1
  cluster.use_cpu_devices(p, num_devices)
  config = cpu_devices.session_config(num_devices)
  with (
    p.Instantiate(),
    tf.Graph().as_default(),
    tf.Session(config=config) as session,
  ):
    yield session


def compare(
  model: str,
  cells: Sequence[int],
  num_steps: int,
  report: Callable[[str], None],
) -> list[Curve]:
  """Trains a model for each K, then in one cell and one micro-batch.

  `report` is called with a line of text now and then.
  """
  params = model_registry.GetParams(model_lookup.find_model(model), 'Train')
  own = pipeline_params.find(params.task, 'num_micro_batches')
  runs = [(f'K = {k}, M = {own}', k, own) for k in cells]
  runs.append(('unpipelined (K = 1, M = 1)', 1, 1))
  curves = []
  for label, num_cells, num_micro_batches in runs:

    def after_step(step: int, label: str = label) -> None:
      if step % 50 == 0:
        report(f'{label}: step {step} of {num_steps}')

    found = losses(model, num_cells, num_steps, num_micro_batches, after_step)
    curves.append(Curve(label, num_cells, num_micro_batches, found))
  return curves


def num_differences(curves: Sequence[Curve]) -> int:
  """In how many steps the curves' losses are not all the same bits."""
  steps = zip(*(curve.losses for curve in curves), strict=True)
  return sum(len(set(step)) > 1 for step in steps)


def draw(curves: Sequence[Curve], title: str, path: str | os.PathLike) -> None:
  """Draws curves into a PNG file, each dashed so that all can be seen."""
  import matplotlib

  matplotlib.use('Agg')
  from matplotlib import pyplot

  figure, axes = pyplot.subplots(figsize=(9, 5), dpi=120)
  pipelined = len(curves) - 1
  for i, curve in enumerate(curves):
    steps = range(1, len(curve.losses) + 1)
    if i == pipelined:
      axes.plot(steps, curve.losses, color='0.6', lw=1, label=curve.label)
      continue
    # Equal curves lie on each other: each shows in the others' gaps.
    dashes = (i * 4, (4, 4 * (pipelined - 1))) if pipelined > 1 else (0, ())
    axes.plot(
      steps, curve.losses, color=f'C{i}', lw=2, ls=dashes, label=curve.label
    )
  axes.set(xlabel='step', ylabel='loss', title=title)
  axes.grid(alpha=0.3)
  axes.legend()
  figure.tight_layout()
  figure.savefig(path)
  pyplot.close(figure)
