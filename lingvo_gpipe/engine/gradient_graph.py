# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The gradient of a traced graph, as a graph of its own.

```
  T: inputs -----------------------------> outputs
                |              |
             arguments     residuals         what G reads of T
                |              |
  G: d_outputs ----------------------------> d_inputs
```

TensorFlow builds both for its own gradient of a `tf.function`, but does not
hand them out.
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import tensorflow.compat.v1 as tf
from tensorflow.python.ops import gradients_util

from lingvo_gpipe.engine import graph_function, packing

# TensorFlow calls the gradient of op `a` `gradients/a_grad/...`.
_SCOPE, _END = 'gradients', '_grad'


@dataclasses.dataclass(frozen=True)
class Slices:
  """Where the parts of a sparse gradient stand among a function's outputs."""

  values: int
  indices: int
  dense_shape: int | None


@dataclasses.dataclass(frozen=True)
class Gradient:
  """The gradient of a traced graph as a graph of its own.

  Attributes:
    graph: Its inputs are one gradient for each of ys, then what it reads of
      elsewhere, `captures`.
    captures: The tensors it reads, of the traced graph or outside of it; those
      that its outputs depend on.
    positions: For each of xs: None if it has no gradient, the position of its
      gradient among the graph's outputs, or `Slices`.
  """

  graph: graph_function.FuncGraph
  captures: tuple[tf.Tensor, ...]
  positions: tuple[int | Slices | None, ...]


def differentiate(
  forward: graph_function.FuncGraph,
  ys: Sequence[tf.Tensor],
  xs: Sequence[tf.Tensor],
  name: str,
  dense: Sequence[bool],
  device: str = '',
  weight: int | None = None,
) -> Gradient:
  """Builds the gradient of `forward`.

  Call it before `forward` becomes a `GraphFunction`: TensorFlow adds outputs
  to a loop when it builds the loop's gradient.

  Args:
    forward: A traced graph.
    ys: Tensors of it; each is given a gradient.
    xs: Tensors of it to differentiate by.
    name: A name for the new graph.
    dense: For each of xs, whether a sparse gradient is to be made dense.
    device: As in `trace`.
    weight: Which of ys is a scalar whose gradient, where it is 0, makes all
      gradients 0, though some would be NaN.
  """
  with graph_function.no_device():
    graph = graph_function.FuncGraph(name, collections={})
    with graph.as_default(), tf.device(device or None):
      d_ys = [tf.placeholder(y.dtype, y.shape) for y in ys]
      gradients = gradients_util._GradientsHelper(
        list(ys), list(xs), grad_ys=d_ys, name=_SCOPE, src_graph=forward
      )
      gradients = [
        tf.convert_to_tensor(g)
        if make_dense and isinstance(g, tf.IndexedSlices)
        else g
        for g, make_dense in zip(gradients, dense, strict=True)
      ]
      if weight is not None:
        gradients = _zeros_without(d_ys[weight], gradients)
      outputs: list[tf.Tensor] = []
      positions = [_append_output(gradient, outputs) for gradient in gradients]
      _sort_sums(graph, forward)
  # TensorFlow also builds gradients that nobody asked for, of a product's other
  # factor, say; what only these read need not be kept.
  used = set(graph_function.needed(outputs))
  captures = [
    (outer, inner)
    for outer, inner in zip(
      graph.external_captures, graph.internal_captures, strict=True
    )
    if inner.op in used
  ]
  graph.inputs = d_ys + [inner for _, inner in captures]
  graph.outputs = outputs
  return Gradient(
    graph, tuple(outer for outer, _ in captures), tuple(positions)
  )


def _sort_sums(graph: tf.Graph, forward: tf.Graph) -> None:
  """Puts the terms of sums in the order of the ops that they come from.

  A layer's input may be read by several ops of the layer, and its gradient is a
  sum over these. TensorFlow adds in the order in which it gets to them. If the
  layer has several outputs, that depends on where their gradients come from: on
  the layers behind it, or on the cut. Sparse gradients are joined instead, in
  the same order: their values, and then their indices.
  """
  numbers = {op.name: op._id for op in forward.get_operations()}
  joined = []
  for op in graph.get_operations():
    if op.type == 'AddN' and len(op.inputs) > 2:
      _sort_terms([op], len(op.inputs), numbers)
    elif op.type == 'ConcatV2' and _origin(op.name, numbers) is None:
      joined.append(op)
  for values, indices in itertools.pairwise(joined):
    if (
      values.inputs[0].dtype.is_floating
      and indices.inputs[0].dtype.is_integer
      and len(values.inputs) == len(indices.inputs)
    ):
      _sort_terms([values, indices], len(values.inputs) - 1, numbers)


def _sort_terms(
  sums: Sequence[tf.Operation], count: int, numbers: Mapping[str, int]
) -> None:
  """Replaces ops that are sums over the same terms by sorted ones."""
  origins, *others = (
    [_origin(t.op.name, numbers) for t in op.inputs[:count]] for op in sums
  )
  if None in origins or any(other != origins for other in others):
    return
  order = sorted(range(count), key=lambda i: origins[i] or 0)
  if order == list(range(count)):
    return
  for op in sums:
    terms = [op.inputs[i] for i in order]
    # Of another op, as the terms may be of different lengths.
    with tf.device(op.device or None):
      is_joined = op.type == 'ConcatV2'
      total = tf.concat(terms, axis=0) if is_joined else tf.add_n(terms)
    before = op.outputs[0]
    for consumer in before.consumers():
      for i, tensor in enumerate(consumer.inputs):
        if tensor is before:
          consumer._update_input(i, total)


def _origin(name: str, numbers: Mapping[str, int]) -> int | None:
  """The number of the op whose gradient an op of this name is part of."""
  parts = name.removeprefix(f'{_SCOPE}/').split(f'{_END}/')
  for count in range(1, len(parts)):
    number = numbers.get(f'{_END}/'.join(parts[:count]))
    if number is not None:
      return number
  return None


def _zeros_without(
  weight: tf.Tensor, gradients: Sequence[tf.Tensor | tf.IndexedSlices | None]
) -> list[tf.Tensor | tf.IndexedSlices | None]:
  """The gradients, or zeros in their place if `weight` is 0.

  One product each, which makes 0 of NaN too, and otherwise changes no bit.
  """

  def masked(gradient: tf.Tensor) -> tf.Tensor:
    is_there = tf.cast(tf.not_equal(weight, 0), gradient.dtype)
    return tf.math.multiply_no_nan(gradient, is_there)

  def choose(
    gradient: tf.Tensor | tf.IndexedSlices | None,
  ) -> tf.Tensor | tf.IndexedSlices | None:
    if gradient is None:
      return None
    if isinstance(gradient, tf.IndexedSlices):
      return tf.IndexedSlices(
        masked(gradient.values), gradient.indices, gradient.dense_shape
      )
    return masked(gradient)

  return [choose(gradient) for gradient in gradients]


def _append_output(
  gradient: tf.Tensor | tf.IndexedSlices | None, outputs: list[tf.Tensor]
) -> int | Slices | None:
  """Appends the tensors of `gradient`, and says where they are."""
  if gradient is None:
    return None
  start = len(outputs)
  if not isinstance(gradient, tf.IndexedSlices):
    outputs.append(tf.identity(gradient))
    return start
  outputs += [tf.identity(gradient.values), tf.identity(gradient.indices)]
  if gradient.dense_shape is None:
    return Slices(start, start + 1, None)
  outputs.append(tf.identity(gradient.dense_shape))
  return Slices(start, start + 1, start + 2)


class Captures:
  """Where what a gradient reads comes from.

  Attributes:
    arguments: Which arguments of the forward call it reads.
    residuals: What it reads besides of the traced graph.
    outer: What it reads of no traced graph.
  """

  def __init__(
    self,
    gradient: Gradient,
    graph: graph_function.FuncGraph,
    arguments: Sequence[packing.Item],
  ):
    """Finds it; `arguments` are the traced graph's, as calls are given them."""
    self._graph = gradient.graph
    inputs = gradient.graph.inputs[-len(gradient.captures) :]
    self._input_for = {
      id(tensor): placeholder
      for tensor, placeholder in zip(gradient.captures, inputs, strict=False)
    }
    self._read = [
      (i, item)
      for i, item in enumerate(arguments)
      if any(id(t) in self._input_for for t in packing.flat([item]))
    ]
    self.arguments = [i for i, _ in self._read]
    given = {id(t) for t in packing.flat(arguments)}
    rest = [t for t in gradient.captures if id(t) not in given]
    self.residuals = [t for t in rest if getattr(t, 'graph', None) is graph]
    own = set(map(id, self.residuals))
    self.outer = [t for t in rest if id(t) not in own]

  def inputs(
    self, items: Callable[[list[tf.Tensor]], list[packing.Item]]
  ) -> list[packing.Item]:
    """The gradient's placeholders: of arguments, of residuals, of the rest."""
    return [
      *self.argument_inputs(),
      *items([self._placeholder(t) for t in self.residuals]),
      *self.outer_inputs(),
    ]

  def argument_inputs(self) -> list[packing.Item]:
    """The placeholders of `arguments`."""
    return [
      [self._placeholder(t) for t in item]
      if isinstance(item, list)
      else self._placeholder(item)
      for _, item in self._read
    ]

  def outer_inputs(self) -> list[tf.Tensor]:
    """The placeholders of `outer`."""
    return [self._placeholder(t) for t in self.outer]

  def _placeholder(self, tensor: tf.Tensor) -> tf.Tensor:
    """That of a captured tensor, or one for what is packed with such."""
    if id(tensor) not in self._input_for:
      with self._graph.as_default():
        self._input_for[id(tensor)] = tf.placeholder(tensor.dtype, tensor.shape)
    return self._input_for[id(tensor)]
