# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a model needs for its pipeline to be compared with its plain layers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pipeline_testing as pt
import tiny_pipeline
from lingvo.core import py_utils

from lingvo_gpipe.pipeline import named_values, plain_run, tied_weights


@dataclasses.dataclass(frozen=True)
class Batch:
  inputs: Any
  targets: Any
  side_inputs: dict = dataclasses.field(default_factory=dict)


def inside(layer, batch):
  return layer.ComputeLoss(
    layer.theta, batch.inputs, batch.targets, side_inputs=batch.side_inputs
  )


def outside(layer, batch):
  """Metrics of what FProp returns, and auxiliary losses added to the loss."""
  inputs = batch.inputs if isinstance(batch.inputs, tuple) else (batch.inputs,)
  with py_utils.AuxLossContext() as aux:
    outputs = layer.FProp(layer.theta, *inputs, side_inputs=batch.side_inputs)
  theta = tied_weights.tie(layer, layer.theta)
  with named_values.scope(batch.side_inputs):
    metrics = layer.loss.FProp(theta.loss, outputs, batch.targets)
  loss, weight = metrics['loss']
  return {**metrics, 'loss': (sum(aux.aux_losses, loss), weight)}


def plain(layer, batch):
  """Metrics of the layers in sequence, without a pipeline."""
  with plain_run.without_pipeline():
    return inside(layer, batch)


@dataclasses.dataclass(frozen=True)
class Model:
  subs: Sequence[Any]
  batch: Callable[[], Batch]
  cuts: Sequence[Any] = (2,)  # As for `pipeline_testing.cells`.
  loss: Any = dataclasses.field(
    default_factory=tiny_pipeline.MeanSquare.Params().Set(name='loss').Copy
  )
  params: dict = dataclasses.field(default_factory=dict)
  # In which ways the pipeline gives what the plain layers do.
  computes: Sequence[Callable] = (inside, outside)
  tolerance: float = 1e-5

  def pipeline(self, cut=1, **kwargs):
    return tiny_pipeline.pipeline(
      self.subs, cut, **{'loss_tpl': self.loss, **self.params, **kwargs}
    )

  def step(self, cut=1, compute=inside, *, do_eval=None, **kwargs):
    """Runs a step; `kwargs` are Params of the pipeline."""
    return self.steps(cut, compute, do_eval=do_eval, **kwargs)[0]

  def steps(self, cut, *computes, do_eval=None, **kwargs):
    """Runs several, of one layer in one graph."""

    def compute(layer):
      batch = self.batch()
      return [compute(layer, batch) for compute in computes]

    params = self.pipeline(cut, **kwargs)
    return pt.run_steps(params, compute, do_eval=do_eval)
