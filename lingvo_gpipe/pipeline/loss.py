# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The loss inside the pipeline: per micro-batch in, of the mini-batch out.

L = sum_m l_m w_m / W for losses l_m and weights w_m of micro-batches. W is
their sum, known only after the first backward tasks. So each of these starts
from s w_m, and their sum is divided by s W once. Without s, a power of two near
1 / (M w_0), half precision would overflow.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils
from tensorflow.python.framework import ops

from lingvo_gpipe.engine import graphs
from lingvo_gpipe.engine.engine import Engine, LossGradients
from lingvo_gpipe.engine.tensors import differentiable, on_device, spec

AUX = 'aux_loss'
_FLOAT32_EXPONENT = 0x7F800000


@dataclasses.dataclass(frozen=True)
class TracedLoss:
  """What the trace of the last cell says of the loss in it.

  `metric` is differentiated; `differentiable` others may have gradients, too.
  `known_weight` is the loss's, if it is the same for all micro-batches.
  """

  metric: str
  names: tuple[str, ...]
  differentiable: tuple[str, ...]
  known_weight: float | None

  def weight(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    """w_m, among the values of micro-batch m."""
    name = 'loss' if self.metric == AUX else self.metric
    return values[2 * self.names.index(name) + 1]


def in_cell(
  layer: base_layer.BaseLayer, metrics: Any, metric: str = 'loss'
) -> tuple[Any, list[tf.Tensor], TracedLoss]:
  """The last cell's output, and values, of what the loss layer returned.

  Returns l_m of the metric that is differentiated, without auxiliary losses;
  each metric's value and weight, float32, by ascending name; what is known.
  """
  check_metrics(layer, metrics)
  names = tuple(sorted(metrics))
  values = [
    tf.stop_gradient(_float32(part)) for name in names for part in metrics[name]
  ]
  others = [
    name
    for name in names
    if name != 'loss' and _may_have_gradient(metrics[name][0])
  ]
  weight = tf.get_static_value(tf.convert_to_tensor(metrics['loss'][1]))
  known_weight = None if weight is None else float(weight)
  outputs = py_utils.NestedMap()
  if metric != AUX:
    outputs.loss = _float32(metrics[metric][0])
  return outputs, values, TracedLoss(metric, names, tuple(others), known_weight)


def constant_weight(
  losses: Sequence[TracedLoss], sizes: Sequence[int | None]
) -> float | None:
  """The loss's weight, if it is one number whatever the micro-batch has."""
  weights = {loss.known_weight for loss in losses}
  if len(weights) != 1 or len(sizes) == 1:
    return None
  [weight] = weights
  if weight is None:
    return None
  if len(set(sizes)) == 1 and sizes[0] and weight % sizes[0] == 0:
    return None  # It can be the number of examples or tokens.
  return weight


def start(
  loss: TracedLoss, engine: Engine, first_size: Any
) -> tuple[LossGradients, Callable[[], tf.Tensor]]:
  """What the backward tasks start from, and what gives the scale s."""
  cells = engine.traced.cells

  @functools.cache
  def scale() -> tf.Tensor:
    # By the first micro-batch, as no others may be known before the first
    # backward task. If it has no weight, its examples stand for it.
    with on_device(cells[-1].device):
      weight = tf.abs(loss.weight(values_of(engine, 0)))
      weight = tf.where(weight > 0, weight, tf.cast(first_size, tf.float32))
      total = engine.traced.schedule.num_micro_batches * weight
      exponent = tf.bitwise.bitwise_and(
        tf.bitcast(total, tf.int32), _FLOAT32_EXPONENT
      )
      return 1 / tf.bitcast(exponent, tf.float32)

  @functools.cache
  def seed(m: int) -> tf.Tensor:
    factor = scale()
    with on_device(cells[-1].device):
      return loss.weight(values_of(engine, m)) * factor

  def of_aux_losses(k: int, m: int) -> list[tf.Tensor]:
    d_loss = seed(m)
    with on_device(cells[k].device):
      return [tf.cast(d_loss, x.dtype) for x in engine.results(k, m).losses]

  def of_outputs(m: int) -> list[tf.Tensor]:
    return [] if loss.metric == AUX else [seed(m)]

  return LossGradients(of_outputs, of_aux_losses), scale


def values_of(engine: Engine, m: int) -> list[tf.Tensor]:
  k = len(engine.traced.cells) - 1
  notes = engine.traced.function(k, m).notes
  own: list[tf.Tensor] = notes.values.Pack(engine.results(k, m).values).own
  return own


def combine(
  loss: TracedLoss,
  values: Sequence[Sequence[tf.Tensor]],
  aux_losses: Sequence[Sequence[tf.Tensor]],
  known: dict[Any, Any],
) -> py_utils.NestedMap:
  """Combines metrics and auxiliary losses; `known` are functions for it."""
  rows = [[*v, *a] for v, a in zip(values, aux_losses, strict=True)]
  flat = [tensor for row in rows for tensor in row]

  def combine_flat(*tensors: tf.Tensor) -> list[tf.Tensor]:
    pending = iter(tensors)
    again = [[next(pending) for _ in row] for row in rows]
    return _combine_rows(loss, again, len(values[0]))

  specs = tuple(spec(t) for t in flat)
  key = 'combine_metrics', specs
  if key not in known:
    known[key] = graphs.as_function(key[0], combine_flat, specs)
  results = iter(known[key](flat))
  names = [*loss.names, *([AUX] if aux_losses[0] else [])]
  return py_utils.NestedMap(
    {name: (next(results), next(results)) for name in names}
  )


def _combine_rows(
  loss: TracedLoss, rows: Sequence[Sequence[tf.Tensor]], num_values: int
) -> list[tf.Tensor]:
  """Means and total weights of all metrics, then of the auxiliary losses."""
  results: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
  for i, name in enumerate(loss.names):
    pairs = [(row[2 * i], row[2 * i + 1]) for row in rows]
    results[name] = _mean(pairs)
  if len(rows[0]) > num_values:
    aux, weight = _mean(
      [
        (_chain([_float32(a) for a in row[num_values:]]), loss.weight(row))
        for row in rows
      ]
    )
    results['loss'] = (results['loss'][0] + aux, weight)
    results[AUX] = (aux, weight)
  return [part for pair in results.values() for part in pair]


def _mean(
  pairs: Sequence[tuple[tf.Tensor, tf.Tensor]],
) -> tuple[tf.Tensor, tf.Tensor]:
  """The weighted mean, and total weight; a NaN without weight adds 0."""
  weight = _chain([w for _, w in pairs])
  total = _chain([tf.math.multiply_no_nan(v, w) for v, w in pairs])
  return tf.math.divide_no_nan(total, weight), weight


def _chain(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
  return functools.reduce(operator.add, tensors)


def _may_have_gradient(tensor: Any) -> bool:
  """Whether a tensor of a traced cell depends on float inputs of the cell."""
  pending, seen = [tf.convert_to_tensor(tensor)], set()
  while pending:
    tensor = pending.pop()
    if not tf.is_symbolic_tensor(tensor) or tensor.ref() in seen:
      continue
    seen.add(tensor.ref())
    if not differentiable(tensor):
      continue
    if tensor.op.type == 'Placeholder':
      return True
    try:
      if ops.get_gradient_function(tensor.op) is None:
        continue
    except LookupError:
      pass  # A call of a function: TensorFlow looks inside.
    pending.extend(tensor.op.inputs)
  return False


def _float32(x: Any) -> tf.Tensor:
  return tf.cast(tf.convert_to_tensor(x), tf.float32)


def check_metrics(layer: base_layer.BaseLayer, metrics: Any) -> None:
  what = f'loss_tpl: FProp of {layer.path} ({type(layer).__name__}) returned'
  expected = 'it must return metrics {name: (value, weight)} with a "loss".'
  if not isinstance(metrics, Mapping) or 'loss' not in metrics:
    found = sorted(metrics) if isinstance(metrics, Mapping) else metrics
    raise ValueError(f'{what} {found}; {expected}')
  if AUX in metrics:
    raise ValueError(
      f'{what} a metric {AUX!r}, a name kept for the auxiliary losses of '
      'layers; use another.'
    )
  for name, pair in metrics.items():
    if not isinstance(pair, list | tuple) or len(pair) != 2:
      raise ValueError(f'{what} {pair} for {name!r}; {expected}')
    ranks = [tf.convert_to_tensor(part).shape.rank for part in pair]
    if set(ranks) - {None, 0}:
      raise ValueError(
        f'{what} a value and weight of ranks {ranks} for {name!r}; both must '
        'be scalars.'
      )
