# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The loss inside the pipeline: per micro-batch in, of the mini-batch out.

With l_m the loss of micro-batch m and w_m its weight (examples, tokens), the
loss of the mini-batch is

```
  L = sum_m l_m w_m / W,   W = sum_m w_m
```

W is known only when the last micro-batch has gone forward, after the first
backward tasks have run. So each backward task starts from

```
  dL / dl_m = s w_m,   s = a power of two, about 1 / (M w_0)
```

and the sum is divided by s W once: exact for uneven micro-batches and for
losses weighted by tokens. Without s each task's gradients would be W times
those of a model without a pipeline, too much for half precision.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils
from tensorflow.python.framework import ops

from lingvo_gpipe.engine import graph_function, placement, tensor_specs
from lingvo_gpipe.engine.tensor_specs import spec

# The metric that shows the auxiliary losses.
AUX = 'aux_loss'
_FLOAT32_EXPONENT = 0x7F800000


class PipelineLoss:
  """Turns a loss layer's metrics into what the engine needs, and back.

  Attributes:
    has_output: Whether what is differentiated has a part in the loss layer.
    has_aux_losses: Whether auxiliary losses belong to it.
    differentiable: Known from a trace on: the names of the metrics besides the
      loss that may have gradients.
  """

  def __init__(self, device: str, metric: str = 'loss'):
    """Prepares the loss.

    Args:
      device: The last cell's device.
      metric: The metric that is differentiated.
    """
    self._device = device
    self._metric = metric
    self.has_output = metric != AUX
    self.has_aux_losses = metric in ('loss', AUX)
    self.differentiable: list[str] = []
    self._names: list[str] | None = None
    self._known_weights: set[float | None] = set()
    self._combine: dict[Any, graph_function.GraphFunction] = {}

  def in_cell(
    self, layer: base_layer.BaseLayer, metrics: Any
  ) -> tuple[Any, list[tf.Tensor]]:
    """Called while the last cell is traced.

    Args:
      layer: The loss layer, for messages.
      metrics: What its FProp returned.

    Returns:
      The cell's output, l_m of the metric that is differentiated; and values:
      each metric's value and weight, float32, by ascending name.

    Raises:
      ValueError: These are not Lingvo metrics with a 'loss'.
    """
    check_metrics(layer, metrics)
    self._names = sorted(metrics)
    values = []
    for name in self._names:
      for part in metrics[name]:
        values.append(tf.stop_gradient(_float32(part)))
    weight = metrics['loss'][1]
    known = tf.get_static_value(tf.convert_to_tensor(weight))
    self._known_weights.add(None if known is None else float(known))
    self.differentiable = [
      name
      for name in self._names
      if name != 'loss' and _may_have_gradient(metrics[name][0])
    ]
    outputs = py_utils.NestedMap()
    if self.has_output:
      outputs.loss = _float32(metrics[self._metric][0])
    return outputs, values

  def scale(
    self, values: Sequence[tf.Tensor], examples: Any, count: int
  ) -> tf.Tensor:
    """The power of two s, float32.

    Args:
      values: Those of the first micro-batch: with some schedules no others are
        known before the first backward task.
      examples: How many examples it has. They stand for its weight if it has
        none.
      count: M.
    """
    with placement.on_device(self._device):
      weight = tf.abs(self.loss_weight(values))
      weight = tf.where(weight > 0, weight, tf.cast(examples, tf.float32))
      exponent = tf.bitwise.bitwise_and(
        tf.bitcast(count * weight, tf.int32), _FLOAT32_EXPONENT
      )
      return 1 / tf.bitcast(exponent, tf.float32)

  def loss_weight(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
    """w_m, among the values of micro-batch m."""
    name = self._metric if self.has_output else 'loss'
    return values[2 * self._names.index(name) + 1]

  def constant_weight(self, sizes: Sequence[int | None]) -> float | None:
    """The loss's weight, if it is one number whatever the micro-batch has.

    Args:
      sizes: The examples of each micro-batch, None where the graph does not
        know.
    """
    if len(self._known_weights) != 1 or len(sizes) == 1:
      return None
    [weight] = self._known_weights
    if weight is None:
      return None
    if len(set(sizes)) == 1 and sizes[0] and weight % sizes[0] == 0:
      return None  # It can be the number of examples or tokens.
    return weight

  def combine(
    self,
    values: Sequence[Sequence[tf.Tensor]],
    aux_losses: Sequence[Sequence[tf.Tensor]],
  ) -> tuple[py_utils.NestedMap, tf.Tensor]:
    """Combines the metrics of all micro-batches.

    Args:
      values: For each micro-batch, the values that `in_cell` returned.
      aux_losses: For each micro-batch, its auxiliary losses in the order of
        the layers; float scalars.

    Returns:
      The metrics of the mini-batch, the auxiliary losses included, and W.
    """
    num_values, num_aux = len(values[0]), len(aux_losses[0])
    flat = [
      tensor
      for row, aux in zip(values, aux_losses, strict=True)
      for tensor in (*row, *aux)
    ]

    def combine(*tensors: tf.Tensor) -> list[tf.Tensor]:
      width = num_values + num_aux
      rows = [
        tensors[start : start + width]
        for start in range(0, len(tensors), width)
      ]
      return self._combine_rows(rows, num_values)

    specs = tuple(spec(t) for t in flat)
    if specs not in self._combine:
      self._combine[specs] = graph_function.as_function(
        'combine_metrics', combine, specs
      )
    function = self._combine[specs]
    with placement.on_device(self._device):
      results = function(flat)
    names = self._names + ([AUX] if num_aux else [])
    metrics = py_utils.NestedMap(
      {
        name: (results[2 * i], results[2 * i + 1])
        for i, name in enumerate(names)
      }
    )
    return metrics, metrics.loss[1]

  def _combine_rows(
    self, rows: Sequence[Sequence[tf.Tensor]], num_values: int
  ) -> list[tf.Tensor]:
    """Means and total weights of all metrics, then of the auxiliary losses."""
    results: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
    for i, name in enumerate(self._names):
      pairs = [(row[2 * i], row[2 * i + 1]) for row in rows]
      weight = _chain([w for _, w in pairs])
      total = _chain([_weigh(v, w) for v, w in pairs])
      results[name] = (tf.math.divide_no_nan(total, weight), weight)
    num_aux = len(rows[0]) - num_values
    if num_aux:
      loss, weight = results['loss']
      weighted = [
        _weigh(_chain([_float32(a) for a in row[num_values:]]), w)
        for row, w in ((row, self.loss_weight(row)) for row in rows)
      ]
      aux = tf.math.divide_no_nan(_chain(weighted), weight)
      results['loss'] = (loss + aux, weight)
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
    if not tensor_specs.differentiable(tensor):
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
