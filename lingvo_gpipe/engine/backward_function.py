# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The backward pass of a cell as functions.

The functions add a micro-batch's weight gradients to those of the micro-batches
before it, so that one sum a weight is alive and its order is fixed.

A backward pass in two cuts the gradient graph G. Ops that the gradients of the
cell's inputs need are in B, all others in W:

```
  d_outputs, residuals --> B ----------------------> d_inputs
                           |
                      (1) handed: what W reads of B's ops and of the residuals
                           v
  d_outputs, arguments --> W --(2) + sums so far --> sums
```

So nothing is computed twice, each op computes what it does in G, and results
are the same to the last bit. What only B reads is given up after B.
"""

import functools
from collections.abc import Sequence
from typing import TypeAlias

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine.graph_function import (
  FuncGraph,
  GraphFunction,
  Item,
  flat,
  items,
  unpack,
)
from lingvo_gpipe.engine.graph_walks import needed, read_of
from lingvo_gpipe.engine.graphs import Gradient
from lingvo_gpipe.engine.tensors import sum_dtype

Weight: TypeAlias = tf.Tensor | tf.IndexedSlices | None


class BackwardFunction:
  """The functions of one cell that need its gradient.

  Attributes:
    has_gradient: For each input, whether it has one.
    has_gradients: Whether any input has one, and any weight.
    residuals: What is read of T besides its inputs.
  """

  def __init__(
    self,
    name: str,
    graph: FuncGraph,
    arguments: Sequence[Item],
    gradient: Gradient,
    num_data: int,
    device: str,
    *,
    packs: bool = True,
  ):
    """`graph` is T, and `arguments` are its inputs as calls are given them.

    `gradient` is by `num_data` of them, and then by weights.
    """
    self._name = name
    self._graph = graph
    self._items = functools.partial(items, packs=packs)
    self._gradient = gradient.graph
    self._d_ys = gradient.d_ys
    of_data = gradient.positions[:num_data]
    self._weight_positions = gradient.positions[num_data:]
    outputs = self._gradient.outputs
    self._d_data = [outputs[i] for i in of_data if isinstance(i, int)]
    self.has_gradient = [i is not None for i in of_data]
    self._find_sources(gradient.captures, arguments)
    with self._gradient.as_default(), tf.device(device or None):
      self._add_up()
    self.has_gradients = bool(self._d_data), bool(self._newest)
    self._functions: dict[str, GraphFunction] = {}

  def _find_sources(
    self,
    captures: Sequence[tuple[tf.Tensor, tf.Tensor]],
    arguments: Sequence[Item],
  ) -> None:
    inner = {id(outer): placeholder for outer, placeholder in captures}

    def placeholder(tensor: tf.Tensor) -> tf.Tensor:
      if id(tensor) in inner:
        return inner[id(tensor)]
      # It is packed with others that G reads.
      with self._gradient.as_default():
        return tf.placeholder(tensor.dtype, tensor.shape)

    self._sources: list[tuple[int | tf.Tensor, Item]] = []
    for i, item in enumerate(arguments):
      tensors = flat([item])
      if any(id(t) in inner for t in tensors):
        read = list(map(placeholder, tensors))
        self._sources.append((i, read if isinstance(item, list) else read[0]))
    given = {id(t) for t in flat(arguments)}
    self.residuals: list[tf.Tensor] = []
    self._residual_inputs: list[tf.Tensor] = []
    for outer, read in captures:
      if id(outer) in given:
        continue
      if getattr(outer, 'graph', None) is self._graph:
        self.residuals.append(outer)
        self._residual_inputs.append(read)
      else:
        self._sources.append((outer, read))

  def _add_up(self) -> None:
    """Adds weight gradients to the sums so far, within G.

    Sums begin with 0, and never are -0: a micro-batch without weight gives 0 in
    the last cell, but 0 or -0 in those before, and bits would depend on the
    cut. Sparse gradients have two tensors each, with any number of rows.
    """
    self._newest: list[tf.Tensor] = []
    self._before: list[tf.Tensor] = []
    self._after: list[tf.Tensor] = []
    outputs = self._gradient.outputs
    for position in self._weight_positions:
      if isinstance(position, tuple):
        values, indices = (outputs[i] for i in position)
        for part in (values + tf.zeros([], values.dtype), indices):
          rows = [None, *part.shape.as_list()[1:]]
          before = tf.placeholder(part.dtype, rows)
          self._newest.append(part)
          self._before.append(before)
          self._after.append(tf.concat([before, part], axis=0))
      elif position is not None:
        gradient = outputs[position]
        wide = sum_dtype(gradient.dtype)
        if gradient.dtype != wide:
          gradient = tf.cast(gradient, wide)
        before = tf.placeholder(wide, gradient.shape)
        self._newest.append(gradient + tf.zeros([], wide))
        self._before.append(before)
        self._after.append(before + gradient)

  def backward(
    self,
    args: Sequence[tf.Tensor],
    residuals: Sequence[tf.Tensor],
    d_ys: Sequence[tf.Tensor],
    sums: Sequence[tf.Tensor] | None,
  ) -> tuple[list[tf.Tensor | None], list[tf.Tensor]]:
    """Returns the gradients of the inputs, or None, and the new sums.

    `args` are those of the forward call, `d_ys` gradients of what it returned,
    `sums` the weight gradients so far, None for the first micro-batch.
    """
    name = 'backward_first' if sums is None else 'backward'
    if name not in self._functions:
      before, after = self._sums(first=sums is None)
      self._functions[name] = GraphFunction(
        f'{self._name}_backward',
        self._gradient,
        [*self._inputs(), *before],
        [*self._d_data, *after],
      )
    given = [*d_ys, *self._given(args), *residuals, *(sums or ())]
    return self._split(self._functions[name](given, len(self._d_data)))

  def _inputs(self) -> list[Item]:
    """G's placeholders, but for the sums so far."""
    return [
      *self._d_ys,
      *(item for _, item in self._sources),
      *self._items(self._residual_inputs),
    ]

  def _sums(self, *, first: bool) -> tuple[list[Item], list[Item]]:
    """The sums so far, and the new ones."""
    if first:
      return [], self._items(self._newest)
    return self._items(self._before), self._items(self._after)

  def _given(self, args: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """What G is given besides gradients, residuals and sums."""
    return [args[s] if isinstance(s, int) else s for s, _ in self._sources]

  def _split(
    self, results: Sequence[tf.Tensor]
  ) -> tuple[list[tf.Tensor | None], list[tf.Tensor]]:
    """Tells gradients of the inputs, or None, from the rest."""
    rest = iter(results)
    d_inputs = [next(rest) if has else None for has in self.has_gradient]
    return d_inputs, list(rest)

  def backward_inputs(
    self,
    args: Sequence[tf.Tensor],
    residuals: Sequence[tf.Tensor],
    d_ys: Sequence[tf.Tensor],
  ) -> tuple[list[tf.Tensor | None], list[tf.Tensor]]:
    """Calls B; returns gradients of inputs, and what W is handed."""
    if 'B' not in self._functions:
      self._functions['B'] = GraphFunction(
        f'{self._name}_backward_inputs',
        self._gradient,
        self._inputs(),
        [*self._d_data, *self._items(self._cut[1])],
      )
    given = [*d_ys, *self._given(args), *residuals]
    return self._split(self._functions['B'](given, len(self._d_data)))

  def backward_weights(
    self,
    args: Sequence[tf.Tensor],
    handed: Sequence[tf.Tensor],
    d_ys: Sequence[tf.Tensor],
    sums: Sequence[tf.Tensor] | None,
  ) -> list[tf.Tensor]:
    """Calls W with what `backward` takes; returns the new sums."""
    read, of_b, without = self._cut
    name = 'W_first' if sums is None else 'W'
    if name not in self._functions:
      inputs = self._inputs()
      before, after = self._sums(first=sums is None)
      self._functions[name] = GraphFunction(
        f'{self._name}_backward_weights',
        self._gradient,
        [*(inputs[i] for i in read), *self._items(of_b), *before],
        after,
        without=without,
      )
    given = [*d_ys, *self._given(args)]
    given = [*(given[i] for i in read), *handed, *(sums or ())]
    return self._functions[name](given, num_shaped=0)

  @functools.cached_property
  def _cut(self) -> tuple[list[int], list[tf.Tensor], set[tf.Operation]]:
    """Which inputs W reads, what B hands it, and all ops that are not in W."""
    inputs = [*self._d_ys, *(item for _, item in self._sources)]
    given = {t.op for t in [*flat(inputs), *self._residual_inputs]}
    without = given.union(needed(self._d_data, given))
    last = [*self._newest, *self._after]
    reads = read_of(last, without)
    ids = set(map(id, reads))
    read = [
      i
      for i, item in enumerate(inputs)
      if not ids.isdisjoint(map(id, flat([item])))
    ]
    known = {id(t) for i in read for t in flat([inputs[i]])}
    return read, [t for t in reads if id(t) not in known], without

  def weight_gradients(
    self, sums: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]
  ) -> list[Weight]:
    """The gradient of each weight and capture; half precision in float32."""
    sums = unpack(sums, self._after)
    for total, known in zip(sums, self._after, strict=True):
      total.set_shape(known.shape)
    rest = iter(sums)
    gradients: list[Weight] = []
    for position, weight in zip(self._weight_positions, weights, strict=True):
      if position is None:
        gradients.append(None)
      elif isinstance(position, tuple):
        values, indices = next(rest), next(rest)
        shape = _shape(weight, indices.dtype)
        gradients.append(tf.IndexedSlices(values, indices, shape))
      else:
        gradients.append(next(rest))
    return gradients


def _shape(weight: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
  """The shape of a weight, which may be the handle of a variable."""
  if weight.dtype == tf.resource:
    return tf.raw_ops.VariableShape(input=weight, out_type=dtype)
  return tf.shape(weight, out_type=dtype)
