# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A mini-batch through the layers of a PipeliningLayer, without a pipeline."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.pipeline import loss as pipeline_loss
from lingvo_gpipe.pipeline import named_values, tied_weights
from lingvo_gpipe.pipeline.feature_extraction_layer import to_tuple
from lingvo_gpipe.pipeline.mini_batch import TARGETS_VALUE, Leaf, MiniBatch


class PlainRun:
  """A mini-batch that has run; `outputs` or `metrics` gives the result."""

  constant_loss_weight: None = None

  def __init__(
    self,
    layer: Any,
    theta: Any,
    args: tuple[Any, ...],
    targets: Any,
    side_inputs: Mapping[str, Any],
    *,
    with_loss: bool,
  ):
    self.layer = layer
    self._theta = tied_weights.tie(layer, theta)
    self._given = args, targets, side_inputs
    self._aux_losses: list[tf.Tensor] = []
    self.own_metrics: Any = None
    with contextlib.ExitStack() as stack:
      stack.enter_context(named_values.scope(side_inputs))
      if with_loss:
        # Without the loss they go to the context around, if there is one.
        aux = stack.enter_context(py_utils.AuxLossContext(reentrant=True))
        self._aux_losses = aux.aux_losses
      outputs: Any = args
      for cell in layer.cells:
        cell_theta = self._theta[cell.params.name]
        outputs = cell.FProp(cell_theta, *to_tuple(outputs))
      self._outputs = outputs
      if with_loss:
        self.own_metrics = self._loss(outputs, targets)

  def _loss(self, outputs: Any, targets: Any) -> py_utils.NestedMap:
    layer = self.layer.loss
    metrics = layer.FProp(self._theta.loss, outputs, targets)
    pipeline_loss.check_metrics(layer, metrics)
    return py_utils.NestedMap(
      {
        name: tuple(tf.cast(part, tf.float32) for part in pair)
        for name, pair in metrics.items()
      }
    )

  def outputs(self) -> Any:
    return self._outputs

  def metrics(self) -> py_utils.NestedMap:
    metrics: py_utils.NestedMap = self.own_metrics.copy()
    if self._aux_losses:
      loss, weight = metrics.loss
      aux = tf.add_n([tf.cast(a, tf.float32) for a in self._aux_losses])
      metrics.loss = (loss + aux, weight)
      metrics[pipeline_loss.AUX] = (aux, weight)
    return metrics

  def metrics_of_parts(self) -> list[py_utils.NestedMap]:
    """What the loss layer returns for the part of each micro-batch.

    Empty if there is no loss, or if it takes more than outputs and targets.
    """
    p = self.layer.params
    if self.own_metrics is None or named_values.declared(p.loss_tpl).takes:
      return []
    batch = MiniBatch(self.layer, *self._given, '', training=True)

    def leaf(tensor: tf.Tensor | None) -> Leaf | None:
      if tensor is None:
        return None
      # As far as its shape says so it is cut.
      dim, shape = p.batch_dim, tensor.shape
      is_whole = shape.rank is not None and (
        shape.rank <= dim or shape[dim] not in (None, batch.size)
      )
      return Leaf('outputs', tensor, None if is_whole else dim)

    outputs = tf.nest.map_structure(leaf, self._outputs)
    targets = batch.sides[TARGETS_VALUE]
    parts = zip(batch.split(outputs, ''), batch.split(targets, ''), strict=True)
    return [self._loss(*part) for part in parts]


OPEN = py_utils.ThreadLocalStack()


@contextlib.contextmanager
def without_pipeline() -> Iterator[list[PlainRun]]:
  """Inside, PipeliningLayers run in sequence; yields the list of runs."""
  runs: list[PlainRun] = []
  OPEN.stack.append(runs)
  try:
    yield runs
  finally:
    OPEN.stack.pop()


def start(*args: Any, **kwargs: Any) -> PlainRun:
  run = PlainRun(*args, **kwargs)
  OPEN.stack[-1].append(run)
  return run
