# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The backward pass of a cell as functions: given residuals, or recomputing.

```
  forward_keep     T + residuals          keeps what G reads
  given residuals  G + sum
  recomputing      T again, G + sum       given the cell's arguments
```

`sum` adds a micro-batch's weight gradients to those of the micro-batches
before it, so that one sum a weight is alive and its order is fixed.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_function
from lingvo_gpipe.engine.tensor_specs import differentiable, spec, sum_dtype

Weight = tf.Tensor | tf.IndexedSlices | None

# The scope, within a backward function, of the call that runs the forward pass
# again: a trace tells its time from that of the gradient.
RECOMPUTE_SCOPE = 'recompute'


class BackwardFunction:
  """The functions of one cell that need its gradient."""

  def __init__(
    self,
    name: str,
    graph: graph_function.FuncGraph,
    ys: Sequence[tf.Tensor],
    data: Sequence[tf.Tensor | None],
    weights: Sequence[tf.Tensor],
    device: str,
    weight: int | None = None,
  ):
    """Builds the gradient of a traced cell.

    Args:
      name: The cell's name.
      graph: The traced graph T.
      ys: Tensors of it that are given a gradient.
      data: Inputs of it to differentiate by, each on its own; None for one
        whose gradient is not wanted.
      weights: Inputs of it whose gradients are summed over micro-batches.
      device: The device of each op in the functions; '' for where they are
        called.
      weight: Which of ys is given the micro-batch's weight as its gradient: if
        that is 0, so are all gradients.
    """
    self._name = name
    self._device = device
    xs = [*data, *weights]
    used = [i for i, x in enumerate(xs) if x is not None and differentiable(x)]
    gradient = graph_function.differentiate(
      graph,
      ys,
      [xs[i] for i in used],
      f'{name}_backward',
      dense=[i < len(data) for i in used],
      device=device,
      weight=weight,
    )
    positions: list[Any] = [None] * len(xs)
    for i, position in zip(used, gradient.positions, strict=True):
      positions[i] = position
    self.num_ys = len(ys)
    self.input_positions = positions[: len(data)]
    self.weight_positions = positions[len(data) :]
    self._argument_specs = [spec(t) for t in graph.inputs]
    self._y_specs = [spec(y) for y in ys]
    self._num_results = len(graph.outputs)
    self._sources, residuals, self.outer = _sources(gradient, graph)
    self._graph = graph
    self._residuals = residuals
    self._forward_keep: graph_function.GraphFunction | None = None
    self._forward_again: graph_function.GraphFunction | None = None
    self._residual_specs = [spec(t) for t in residuals]
    self._gradient = graph_function.GraphFunction(gradient.graph)
    self._gradient_specs = [spec(t) for t in gradient.graph.outputs]
    self._functions: dict[tuple[bool, bool], graph_function.GraphFunction] = {}

  @property
  def is_empty(self) -> bool:
    """Whether nothing in the cell has a gradient."""
    return not self._gradient_specs

  def forward_keep(self, args: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Calls the cell; returns what it returns, then the residuals."""
    if self._forward_keep is None:
      self._forward_keep = _with_outputs(
        self._graph, [*self._graph.outputs, *self._residuals]
      )
    return self._forward_keep(args)

  def _recompute(self, args: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Calls the cell again, for the residuals alone.

    A function of its own: where outputs of a call are not used TensorFlow
    makes a copy of the function without them, for each caller.
    """
    if self._forward_again is None:
      self._forward_again = _with_outputs(self._graph, self._residuals)
    return self._forward_again(args)

  def residuals(self, kept: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Of what `forward_keep` returned, what `backward` needs."""
    return list(kept[self._num_results :])

  def __call__(
    self,
    args: Sequence[tf.Tensor],
    residuals: Sequence[tf.Tensor] | None,
    d_ys: Sequence[tf.Tensor],
    sums: Sequence[tf.Tensor] | None,
  ) -> tuple[list[tf.Tensor | None], list[tf.Tensor]]:
    """Calls the backward pass of one micro-batch.

    Args:
      args: The arguments of the micro-batch's forward call.
      residuals: What the forward pass kept; None to recompute it.
      d_ys: Gradients of the outputs that have one, then of the losses.
      sums: The weight gradients so far; None for the first micro-batch.

    Returns:
      The gradients of the cell's inputs, None where there is none; and the
      new sums.
    """
    # Without residuals there is nothing to recompute, and less to hold.
    recompute = residuals is None and bool(self._residuals)
    function = self._function(recompute, sums is None)
    if recompute:
      given = [*args, *self.outer, *d_ys]
    else:
      given = [*self._captured(args, residuals or (), self.outer), *d_ys]
    results = function([*given, *(sums or ())])
    count = sum(position is not None for position in self.input_positions)
    data = iter(results[:count])
    d_inputs = [
      None if position is None else next(data)
      for position in self.input_positions
    ]
    return d_inputs, results[count:]

  def _captured(
    self,
    args: Sequence[tf.Tensor],
    residuals: Sequence[tf.Tensor],
    outer: Sequence[tf.Tensor],
  ) -> list[tf.Tensor]:
    """What G reads, in its order."""
    pools = {'argument': args, 'residual': residuals, 'outer': outer}
    return [pools[pool][index] for pool, index in self._sources]

  def _function(
    self, recompute: bool, first: bool
  ) -> graph_function.GraphFunction:
    """The function for one kind of backward task, made when first needed."""
    key = (recompute, first)
    if key in self._functions:
      return self._functions[key]
    outer_specs = [spec(t) for t in self.outer]
    if recompute:
      given_specs = [*self._argument_specs, *outer_specs]
    else:
      given_specs = self._captured(
        self._argument_specs, self._residual_specs, outer_specs
      )
    num_given, num_args = len(given_specs), len(self._argument_specs)

    def body(*tensors: tf.Tensor) -> list[tf.Tensor]:
      captured = list(tensors[:num_given])
      d_ys = tensors[num_given : num_given + self.num_ys]
      if recompute:
        args, outer = captured[:num_args], captured[num_args:]
        with tf.name_scope(RECOMPUTE_SCOPE):
          residuals_again = self._recompute(args)
        captured = self._captured(args, residuals_again, outer)
      gradients = self._gradient([*d_ys, *captured])
      sums = None if first else tensors[num_given + self.num_ys :]
      return [*self._data_gradients(gradients), *self._add(gradients, sums)]

    sum_specs = [] if first else self.sum_specs()
    self._functions[key] = graph_function.as_function(
      self._name + ('_recompute' if recompute else '_backward'),
      body,
      [*given_specs, *self._y_specs, *sum_specs],
      self._device,
    )
    return self._functions[key]

  def _data_gradients(self, gradients: Sequence[Any]) -> list[Any]:
    return [gradients[p] for p in self.input_positions if p is not None]

  def _add(
    self, gradients: Sequence[tf.Tensor], sums: Sequence[tf.Tensor] | None
  ) -> list[tf.Tensor]:
    """Adds a micro-batch's weight gradients to the sums."""
    before = iter(sums or ())
    after: list[tf.Tensor] = []
    for position in self.weight_positions:
      if position is None:
        continue
      if isinstance(position, graph_function.Slices):
        parts = [gradients[position.values], gradients[position.indices]]
        if sums is not None:
          parts = [tf.concat([next(before), part], axis=0) for part in parts]
        after += parts
        continue
      gradient = gradients[position]
      wide = sum_dtype(gradient.dtype)
      if gradient.dtype != wide:
        gradient = tf.cast(gradient, wide)
      after.append(gradient if sums is None else next(before) + gradient)
    return after

  def sum_specs(self) -> list[tf.TensorSpec]:
    """What the sums are like; sparse ones have any number of rows."""
    specs = []
    for position in self.weight_positions:
      if position is None:
        continue
      if isinstance(position, graph_function.Slices):
        for index in (position.values, position.indices):
          part = self._gradient_specs[index]
          shape = [None, *part.shape.as_list()[1:]]
          specs.append(tf.TensorSpec(shape, part.dtype))
      else:
        part = self._gradient_specs[position]
        specs.append(tf.TensorSpec(part.shape, sum_dtype(part.dtype)))
    return specs

  def weight_gradients(
    self, sums: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]
  ) -> list[Weight]:
    """The gradient of each weight and capture, from the last sums.

    That of a half-precision weight is float32.
    """
    rest = iter(sums)
    gradients: list[Weight] = []
    for position, weight in zip(self.weight_positions, weights, strict=True):
      if position is None:
        gradients.append(None)
      elif isinstance(position, graph_function.Slices):
        values, indices = next(rest), next(rest)
        shape = _shape(weight, indices.dtype)
        gradients.append(tf.IndexedSlices(values, indices, shape))
      else:
        gradients.append(next(rest))
    return gradients


def _with_outputs(
  graph: graph_function.FuncGraph, outputs: Sequence[tf.Tensor]
) -> graph_function.GraphFunction:
  """A function of a traced graph that returns other tensors of it."""
  before = graph.outputs
  graph.outputs = list(outputs)
  try:
    return graph_function.GraphFunction(graph)
  finally:
    graph.outputs = before


def _shape(weight: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
  """The shape of a weight, which may be the handle of a variable."""
  if weight.dtype == tf.resource:
    return tf.raw_ops.VariableShape(input=weight, out_type=dtype)
  return tf.shape(weight, out_type=dtype)


def _sources(
  gradient: graph_function.Gradient, graph: graph_function.FuncGraph
) -> tuple[list[tuple[str, int]], list[tf.Tensor], list[tf.Tensor]]:
  """Says where each tensor that a gradient reads comes from.

  Returns:
    For each, the pool ('argument' of the forward call, 'residual' or 'outer')
    and its index there; the residuals; and the tensors of no traced graph.
  """
  arguments = {id(t): i for i, t in enumerate(graph.inputs)}
  sources: list[tuple[str, int]] = []
  residuals: list[tf.Tensor] = []
  outer: list[tf.Tensor] = []
  for tensor in gradient.captures:
    if id(tensor) in arguments:
      sources.append(('argument', arguments[id(tensor)]))
    elif getattr(tensor, 'graph', None) is graph:
      sources.append(('residual', len(residuals)))
      residuals.append(tensor)
    else:
      sources.append(('outer', len(outer)))
      outer.append(tensor)
  return sources, residuals, outer
