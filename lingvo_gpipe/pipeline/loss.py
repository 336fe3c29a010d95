# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The loss inside the pipeline: per micro-batch in, of the mini-batch out.

With l_m the loss of micro-batch m and w_m its weight (examples, tokens), that
of the mini-batch is L = sum_m l_m w_m / W, W = sum_m w_m. W is known only when
the last micro-batch has gone forward, after the first backward tasks. So each
backward task starts from dL / dl_m = s w_m, with s a power of two, about
1 / (M w_0), and the sum is divided by s W once. Without s each task's gradients
would be W times those of a model without a pipeline, too much for half
precision.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils
from tensorflow.python.framework import ops

from lingvo_gpipe.engine import graph_function
from lingvo_gpipe.engine.backward_tasks import LossGradients
from lingvo_gpipe.engine.engine import Engine
from lingvo_gpipe.engine.tensors import differentiable, on_device, spec

# The metric that shows the auxiliary losses.
AUX = 'aux_loss'
_FLOAT32_EXPONENT = 0x7F800000


@dataclasses.dataclass(frozen=True)
class TracedLoss:
  """What the trace of the last cell says of the loss in it.

  Attributes:
    metric: The metric that is differentiated.
    names: Those of all metrics, ascending.
    differentiable: Other metrics than the loss that may have gradients.
    known_weight: The loss's weight, if it is the same for all micro-batches.
  """

  metric: str
  names: tuple[str, ...]
  differentiable: tuple[str, ...]
  known_weight: float | None

  def weight(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    """w_m, among the values of micro-batch m."""
    name = 'loss' if self.metric == AUX else self.metric
    return values[2 * self.names.index(name) + 1]

  def scale(
    self, values: Sequence[tf.Tensor], examples: Any, count: int
  ) -> tf.Tensor:
    """The power of two s, float32.

    It goes by the first micro-batch's values: with some schedules no others are
    known before the first backward task. If that has no weight, its examples
    stand for it. `count` is M.
    """
    weight = tf.abs(self.weight(values))
    weight = tf.where(weight > 0, weight, tf.cast(examples, tf.float32))
    exponent = tf.bitwise.bitwise_and(
      tf.bitcast(count * weight, tf.int32), _FLOAT32_EXPONENT
    )
    return 1 / tf.bitcast(exponent, tf.float32)


def in_cell(
  layer: base_layer.BaseLayer, metrics: Any, metric: str = 'loss'
) -> tuple[Any, list[tf.Tensor], TracedLoss]:
  """Called while the last cell is traced.

  Args:
    layer: The loss layer, for messages.
    metrics: What its FProp returned.
    metric: The one that is differentiated. The auxiliary losses have no part
      in the loss layer.

  Returns:
    The cell's output, l_m of the metric that is differentiated; values: each
    metric's value and weight, float32, by ascending name; and what is known.

  Raises:
    ValueError: These are not Lingvo metrics with a 'loss'.
  """
  check_metrics(layer, metrics)
  names = tuple(sorted(metrics))
  values = [
    tf.stop_gradient(_float32(part)) for name in names for part in metrics[name]
  ]
  weight = tf.get_static_value(tf.convert_to_tensor(metrics['loss'][1]))
  traced = TracedLoss(
    metric,
    names,
    tuple(
      name
      for name in names
      if name != 'loss' and _may_have_gradient(metrics[name][0])
    ),
    None if weight is None else float(weight),
  )
  outputs = py_utils.NestedMap()
  if metric != AUX:
    outputs.loss = _float32(metrics[metric][0])
  return outputs, values, traced


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


class LossStart:
  """What the backward tasks start from, with the loss in the last cell."""

  def __init__(self, loss: TracedLoss, engine: Engine, first_size: Any):
    """The engine runs the forward tasks; the size is that of micro-batch 0."""
    self._loss = loss
    self._engine = engine
    self._first_size = first_size
    self._seed = functools.cache(self._seed_of)

  def gradients(self) -> LossGradients:
    """What the engine needs to know."""
    return LossGradients(self._outputs, self._losses)

  @functools.cached_property
  def scale(self) -> tf.Tensor:
    """By what gradients are scaled until the loss's weight is known."""
    traced = self._engine.traced
    with on_device(traced.cells[-1].device):
      return self._loss.scale(
        values_of(self._engine, 0),
        self._first_size,
        traced.schedule.num_micro_batches,
      )

  def _outputs(self, m: int) -> list[tf.Tensor]:
    return [] if self._loss.metric == AUX else [self._seed(m)]

  def _seed_of(self, m: int) -> tf.Tensor:
    """The gradient of a micro-batch's loss, scaled."""
    scale = self.scale
    with on_device(self._engine.traced.cells[-1].device):
      return self._loss.weight(values_of(self._engine, m)) * scale

  def _losses(self, k: int, m: int) -> list[tf.Tensor]:
    """The gradients of cell `k`'s auxiliary losses."""
    seed = self._seed(m)
    with on_device(self._engine.traced.cells[k].device):
      return [
        tf.cast(seed, loss.dtype) for loss in self._engine.results(k, m).losses
      ]


def values_of(engine: Engine, m: int) -> list[tf.Tensor]:
  """The values that `in_cell` returned for a micro-batch."""
  k = len(engine.traced.cells) - 1
  notes = engine.traced.function(k, m).notes
  own: list[tf.Tensor] = notes.split(engine.results(k, m).values).own
  return own


def combine(
  loss: TracedLoss,
  values: Sequence[Sequence[tf.Tensor]],
  aux_losses: Sequence[Sequence[tf.Tensor]],
  known: dict[Any, Any],
) -> py_utils.NestedMap:
  """Combines the metrics of all micro-batches, the auxiliary losses included.

  Args:
    loss: The loss.
    values: For each micro-batch, the values that `in_cell` returned.
    aux_losses: For each micro-batch, its auxiliary losses in the order of the
      layers; float scalars.
    known: Functions made before; a new one is added.
  """
  num_values, num_aux = len(values[0]), len(aux_losses[0])
  flat = [
    tensor
    for row, aux in zip(values, aux_losses, strict=True)
    for tensor in (*row, *aux)
  ]

  def combine_flat(*tensors: tf.Tensor) -> list[tf.Tensor]:
    width = num_values + num_aux
    rows = [
      tensors[start : start + width] for start in range(0, len(tensors), width)
    ]
    return _combine_rows(loss, rows, num_values)

  specs = tuple(spec(t) for t in flat)
  key = 'combine_metrics', specs
  if key not in known:
    known[key] = graph_function.as_function(key[0], combine_flat, specs)
  results = known[key](flat)
  names = [*loss.names, *([AUX] if num_aux else [])]
  return py_utils.NestedMap(
    {name: (results[2 * i], results[2 * i + 1]) for i, name in enumerate(names)}
  )


def _combine_rows(
  loss: TracedLoss, rows: Sequence[Sequence[tf.Tensor]], num_values: int
) -> list[tf.Tensor]:
  """Means and total weights of all metrics, then of the auxiliary losses."""
  results: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
  for i, name in enumerate(loss.names):
    pairs = [(row[2 * i], row[2 * i + 1]) for row in rows]
    weight = _chain([w for _, w in pairs])
    total = _chain([_weigh(v, w) for v, w in pairs])
    results[name] = (tf.math.divide_no_nan(total, weight), weight)
  if len(rows[0]) > num_values:
    value, weight = results['loss']
    weighted = [
      _weigh(_chain([_float32(a) for a in row[num_values:]]), w)
      for row, w in ((row, loss.weight(row)) for row in rows)
    ]
    aux = tf.math.divide_no_nan(_chain(weighted), weight)
    results['loss'] = (value + aux, weight)
    results[AUX] = (aux, weight)
  return [part for pair in results.values() for part in pair]


def _chain(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
  """The sum, added from the first to the last."""
  total = tensors[0]
  for tensor in tensors[1:]:
    total = total + tensor
  return total


def _weigh(value: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
  """value x weight; 0 where the weight is, though the value is a mean of 0."""
  return tf.math.multiply_no_nan(value, weight)


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
  """Raises ValueError if these are not Lingvo metrics with a 'loss'."""
  what = f'loss_tpl: FProp of {layer.path} ({type(layer).__name__})'
  expected = 'it must return metrics {name: (value, weight)} with a "loss".'
  if not isinstance(metrics, Mapping) or 'loss' not in metrics:
    found = sorted(metrics) if isinstance(metrics, Mapping) else metrics
    raise ValueError(f'{what} returned {found}; {expected}')
  if AUX in metrics:
    raise ValueError(
      f'{what} returned a metric {AUX!r}, a name kept for the auxiliary '
      'losses of layers; use another.'
    )
  for name, pair in metrics.items():
    if not isinstance(pair, list | tuple) or len(pair) != 2:
      raise ValueError(f'{what} returned {pair} for {name!r}; {expected}')
    for part in pair:
      rank = tf.convert_to_tensor(part).shape.rank
      if rank not in (None, 0):
        raise ValueError(
          f'{what} returned a value or weight of rank {rank} for {name!r}; '
          'both must be scalars.'
        )
