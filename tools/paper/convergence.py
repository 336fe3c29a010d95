# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains a model with several numbers of cells and compares the losses.

The pipelined runs have the same micro-batches, so their losses must agree in
every bit, dropout included. The run without a pipeline has the mini-batch in
one piece, and other dropout masks; its curve lies beside theirs.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo import model_registry
from lingvo.core import cluster_factory

from lingvo_gpipe import cluster, cpu_devices
from lingvo_gpipe.training import model_lookup, model_pipelines

# Weights start alike however many cells there are.
_SEED = 1234


@dataclasses.dataclass(frozen=True)
class Curve:
  """A training: what it is, and the loss of each step, as float32 has it."""

  label: str
  num_cells: int
  num_micro_batches: int
  losses: tuple[float, ...]


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


def train(
  model: str, num_cells: int, num_micro_batches: int, num_steps: int
) -> Curve:
  """Trains a registered model on as many CPU devices as cells."""
  label = f'K = {num_cells}, M = {num_micro_batches}'
  params = model_registry.GetParams(model_lookup.find_model(model), 'Train')
  params.random_seed = params.task.random_seed = _SEED
  name = 'num_micro_batches'
  model_pipelines.set_all(params.task, name, num_micro_batches, name)
  losses = []
  with session_of(num_cells, 'trainer_client') as session:
    tf.random.set_seed(_SEED)
    trained = params.Instantiate()
    trained.ConstructFPropBPropGraph()
    task = trained.GetTask()
    session.run(tf.global_variables_initializer())
    task.input.Initialize(session)
    for step in range(1, num_steps + 1):
      metrics, _ = session.run([task.eval_metrics, task.train_op])
      losses.append(float(metrics['loss'][0]))
      if step % 50 == 0:
        print(f'{label}: step {step} of {num_steps}')
  return Curve(label, num_cells, num_micro_batches, tuple(losses))


def compare(model: str, cells: Sequence[int], num_steps: int) -> list[Curve]:
  """Trains a model for each K, then in one cell and one micro-batch.

  Raises:
    UserError: There is no such model, or it has no pipeline.
  """
  params = model_registry.GetParams(model_lookup.find_model(model), 'Train')
  own = model_pipelines.find(params.task, 'num_micro_batches')
  curves = [train(model, k, own, num_steps) for k in cells]
  plain = train(model, 1, 1, num_steps)
  label = f'unpipelined ({plain.label})'
  return [*curves, dataclasses.replace(plain, label=label)]


def num_differences(curves: Sequence[Curve]) -> int:
  """In how many steps the curves' losses are not all the same bits."""
  steps = zip(*(curve.losses for curve in curves), strict=True)
  return sum(len(set(step)) > 1 for step in steps)


def draw(
  curves: Sequence[Curve], title: str, path: str | os.PathLike[str]
) -> None:
  """Draws curves into a PNG file, each dashed so that all can be seen."""
  from matplotlib import figure

  picture = figure.Figure(figsize=(9, 5), dpi=120, layout='tight')
  axes = picture.subplots()
  *pipelined, plain = curves
  others = len(pipelined) - 1
  for i, curve in enumerate(pipelined):
    # Equal curves lie on each other: each shows in the others' gaps.
    dashes = (i * 4, (4, 4 * others) if others else ())
    look: Any = {'color': f'C{i}', 'lw': 2, 'ls': dashes, 'label': curve.label}
    axes.plot(range(1, len(curve.losses) + 1), curve.losses, **look)
  steps = range(1, len(plain.losses) + 1)
  axes.plot(steps, plain.losses, color='0.6', lw=1, label=plain.label, zorder=1)
  axes.set(xlabel='step', ylabel='loss', title=title)
  axes.grid(alpha=0.3)
  axes.legend()
  picture.savefig(path)
