# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The backward pass of a cell as functions.

```
  forward, keeps      T + residuals     returns what G reads of T
  forward, recomputes T + stash         returns what is kept all the same
  recompute           T again           residuals, from arguments and stash
  backward            G + sum           given residuals
  backward in two     G + sum           B, then W: see `split_backward`
```

`sum` adds a micro-batch's weight gradients to those of the micro-batches
before it, so that one sum a weight is alive and its order is fixed.
"""

import functools
from collections.abc import Sequence
from typing import Any, TypeAlias

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import (
  gradient_graph,
  graph_function,
  graph_walks,
  packing,
)
from lingvo_gpipe.engine.graph_walks import Repeatable
from lingvo_gpipe.engine.split_backward import SplitBackward, Sums
from lingvo_gpipe.engine.tensors import differentiable, sum_dtype

Weight: TypeAlias = tf.Tensor | tf.IndexedSlices | None


class BackwardFunction:
  """The functions of one cell that need its gradient."""

  def __init__(
    self,
    name: str,
    graph: graph_function.FuncGraph,
    arguments: Sequence[packing.Item],
    ys: Sequence[tf.Tensor],
    data: Sequence[tf.Tensor | None],
    weights: Sequence[tf.Tensor],
    device: str,
    weight: int | None = None,
    *,
    packs: bool = True,
    kept: Sequence[range] = (),
  ):
    """Builds the gradient of a traced cell.

    Args:
      name: The cell's name.
      graph: The traced graph T.
      arguments: Its inputs, as calls are given them.
      ys: Tensors of it that are given a gradient.
      data: Inputs of it to differentiate by; None where that is not wanted.
      weights: Inputs of it whose gradients are summed over micro-batches.
      device: The device of each op in the functions; '' for where they run.
      weight: Which of ys is given the micro-batch's weight as its gradient: if
        that is 0, so are all gradients.
      packs: Whether what goes from call to call is packed.
      kept: The numbers of ops that `recompute` does not run again.
    """
    self._name = name
    self._graph = graph
    self._arguments = list(arguments)
    self._packs = packs
    self._kept = kept
    xs = [*data, *weights]
    used = [i for i, x in enumerate(xs) if x is not None and differentiable(x)]
    gradient = gradient_graph.differentiate(
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
    self._num_results = len(graph.outputs)
    self._gradient = gradient.graph
    self._captures = gradient_graph.Captures(gradient, graph, self._arguments)
    self._residuals = self._captures.residuals
    with graph.as_default():
      self._first_d_y = [tf.placeholder(y.dtype, y.shape) for y in ys[:1]]
    with self._gradient.as_default(), tf.device(device or None):
      self._sums = self._add_up()
    self._functions: dict[str, graph_function.GraphFunction] = {}

  @property
  def is_empty(self) -> bool:
    """Whether nothing in the cell has a gradient."""
    return not self._gradient.outputs

  def _add_up(self) -> Sums:
    """Adds weight gradients to the sums so far, within G.

    Every sum begins with 0, and never is -0. A micro-batch without weight gives
    0 in the cell that knows of it, but 0 or -0 in those before: bits that would
    depend on the cut. Sparse gradients have two tensors each, with any number
    of rows.
    """
    newest: list[tf.Tensor] = []
    before: list[tf.Tensor] = []
    after: list[tf.Tensor] = []
    for position in self.weight_positions:
      if position is None:
        continue
      if isinstance(position, gradient_graph.Slices):
        for index in (position.values, position.indices):
          part = self._gradient.outputs[index]
          if index == position.values:
            part = part + tf.zeros([], part.dtype)
          rows = [None, *part.shape.as_list()[1:]]
          newest.append(part)
          before.append(tf.placeholder(part.dtype, rows))
          after.append(tf.concat([before[-1], part], axis=0))
        continue
      gradient = self._gradient.outputs[position]
      wide = sum_dtype(gradient.dtype)
      if gradient.dtype != wide:
        gradient = tf.cast(gradient, wide)
      newest.append(gradient + tf.zeros([], gradient.dtype))
      before.append(tf.placeholder(gradient.dtype, gradient.shape))
      after.append(before[-1] + gradient)
    return Sums(newest, before, after)

  def _items(self, tensors: Sequence[tf.Tensor]) -> list[packing.Item]:
    return packing.items(tensors, packs=self._packs)

  # -- Calls.

  def forward(
    self, args: Sequence[tf.Tensor], *, keep: bool
  ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Calls the cell; returns what it returns, and the stash.

    With `keep` the stash is what the backward pass reads; if not, it is what
    `recompute` takes besides the arguments.
    """
    if keep:
      name, stash = 'forward_keep', self._residuals
    else:
      name, stash = 'forward', self._stash[0]
    if name not in self._functions:
      self._functions[name] = forward_function(
        f'{self._name}_{name}', self._graph, self._arguments, self._items(stash)
      )
    flat = self._functions[name](args, num_shaped=self._num_results)
    return flat[: self._num_results], flat[self._num_results :]

  def recompute(
    self,
    args: Sequence[tf.Tensor],
    stash: Sequence[tf.Tensor],
    d_ys: Sequence[tf.Tensor],
  ) -> list[tf.Tensor]:
    """Runs the cell again, for what the backward pass reads.

    Args:
      args: The arguments of the micro-batch's forward call.
      stash: What that kept.
      d_ys: As for `backward`: nothing is recomputed before they are there, as
        it would have to be held till then.
    """
    if not self._residuals:
      return []
    if 'recompute' not in self._functions:
      kept, left_out = self._stash
      with graph_function.without_control_inputs(self._graph, left_out):
        self._functions['recompute'] = graph_function.GraphFunction(
          f'{self._name}_recompute',
          self._graph,
          [*self._arguments, *self._items(kept), *self._first_d_y],
          self._items(self._residuals),
          graph_function.needed(
            self._residuals, {*left_out, *(t.op for t in self._graph.inputs)}
          ),
        )
    return self._functions['recompute'](
      [*args, *stash, *d_ys[: len(self._first_d_y)]], num_shaped=0
    )

  def backward(
    self,
    args: Sequence[tf.Tensor],
    residuals: Sequence[tf.Tensor],
    d_ys: Sequence[tf.Tensor],
    sums: Sequence[tf.Tensor] | None,
  ) -> tuple[list[tf.Tensor | None], list[tf.Tensor]]:
    """Calls the backward pass of one micro-batch.

    Args:
      args: The arguments of the micro-batch's forward call.
      residuals: What the forward pass kept, or `recompute` returned.
      d_ys: Gradients of the outputs that have one, then of the losses.
      sums: The weight gradients so far; None for the first micro-batch.

    Returns:
      The gradients of the cell's inputs, None where there is none; and the
      new sums, as `weight_gradients` takes them.
    """
    captured = self._captured(args, residuals)
    function = self._backward_function(first=sums is None)
    num_data = len(self._data)
    flat = function([*d_ys, *captured, *(sums or ())], num_shaped=num_data)
    return self._d_inputs(flat[:num_data]), flat[num_data:]

  def _captured(
    self, args: Sequence[tf.Tensor], residuals: Sequence[tf.Tensor]
  ) -> list[tf.Tensor]:
    """What G reads besides gradients."""
    return [
      *(args[i] for i in self._captures.arguments),
      *residuals,
      *self._captures.outer,
    ]

  @property
  def _data(self) -> list[tf.Tensor]:
    """The gradients of inputs in G."""
    outputs = self._gradient.outputs
    return [outputs[p] for p in self.input_positions if p is not None]

  def _d_inputs(self, flat: Sequence[tf.Tensor]) -> list[tf.Tensor | None]:
    """For each input the gradient, None where there is none."""
    results = iter(flat)
    return [
      None if position is None else next(results)
      for position in self.input_positions
    ]

  def _backward_function(self, *, first: bool) -> graph_function.GraphFunction:
    name = 'backward_first' if first else 'backward'
    if name not in self._functions:
      sums = self._sums.newest if first else self._sums.after
      self._functions[name] = graph_function.GraphFunction(
        f'{self._name}_backward',
        self._gradient,
        [
          *self._gradient.inputs[: self.num_ys],
          *self._captures.inputs(self._items),
          *([] if first else self._items(self._sums.before)),
        ],
        [*self._data, *self._items(sums)],
      )
    return self._functions[name]

  # -- The backward pass in two.

  @property
  def splits(self) -> bool:
    """Whether there are gradients both of inputs and of weights."""
    return bool(self._data and self._sums.after)

  @property
  def has_input_gradients(self) -> bool:
    """Whether any input has a gradient."""
    return bool(self._data)

  @functools.cached_property
  def _split(self) -> SplitBackward:
    return SplitBackward(
      self._name,
      self._gradient,
      self.num_ys,
      self._captures,
      self._data,
      self._sums,
      self._items,
    )

  def backward_inputs(
    self,
    args: Sequence[tf.Tensor],
    residuals: Sequence[tf.Tensor],
    d_ys: Sequence[tf.Tensor],
  ) -> tuple[list[tf.Tensor | None], list[tf.Tensor]]:
    """Calls the part that gradients of inputs need; arguments as `backward`.

    Returns:
      The gradients of inputs; and what `backward_weights` reads besides.
    """
    captured = self._captured(args, residuals)
    flat, handed = self._split.inputs(d_ys, captured)
    return self._d_inputs(flat), handed

  def backward_weights(
    self,
    args: Sequence[tf.Tensor],
    handed: Sequence[tf.Tensor],
    d_ys: Sequence[tf.Tensor],
    sums: Sequence[tf.Tensor] | None,
  ) -> list[tf.Tensor]:
    """Calls the rest: arguments as of `backward`; returns the new sums."""
    captured = self._captured(args, ())
    return self._split.sums(d_ys, captured, handed, sums)

  @functools.cached_property
  def _stash(self) -> tuple[list[tf.Tensor], set[tf.Operation]]:
    """What the recomputed pass takes from the first one; what it leaves out.

    It leaves out ops that would return something else when they run again,
    and those that are to be kept:

    ```
      arguments --> [ kept ] --(1)--> [ again ] --> [ kept ] --(1)--> [ again ]
                       |                 |             |                 |
                      (2)            residuals        (2)            residuals
    ```

    (1) What runs again reads some of them; (2) the gradient reads others. Both
    are stashed. Ops without outputs are left out, too.
    """
    repeatable = Repeatable(self._graph)
    given = {t.op for t in self._graph.inputs}
    kept = self._kept_ops()
    needed = graph_function.needed(self._residuals, given)
    culprits = {op for op in needed if repeatable.culprit(op)}
    read = self._read_of(culprits | kept)
    # Where that takes no more memory, such ops run again all the same.
    again = graph_walks.free_again(read, given)
    left_out = culprits | (kept - again)
    return self._read_of(left_out), left_out

  def _kept_ops(self) -> set[tf.Operation]:
    operations = self._graph.get_operations()
    kept = {operations[i] for numbers in self._kept for i in numbers}
    given = {t.op for t in self._graph.inputs}
    return {op for op in kept - given if op.type != 'Const'}

  def _read_of(self, left_out: set[tf.Operation]) -> list[tf.Tensor]:
    """What others that residuals need, or the gradient, read of some ops."""
    given = {t.op for t in self._graph.inputs}
    read: dict[int, tf.Tensor] = {}
    for op in graph_function.needed(self._residuals, {*given, *left_out}):
      read.update({id(t): t for t in op.inputs if t.op in left_out})
    read.update({id(t): t for t in self._residuals if t.op in left_out})
    return list(read.values())

  def weight_gradients(
    self, sums: Sequence[tf.Tensor], weights: Sequence[tf.Tensor]
  ) -> list[Weight]:
    """The gradient of each weight and capture, from the last sums.

    That of a half-precision weight is float32.
    """
    sums = packing.unpack(sums, self._items(self._sums.after), self._sums.after)
    for total, known in zip(sums, self._sums.after, strict=True):
      total.set_shape(known.shape)
    rest = iter(sums)
    gradients: list[Weight] = []
    for position, weight in zip(self.weight_positions, weights, strict=True):
      if position is None:
        gradients.append(None)
      elif isinstance(position, gradient_graph.Slices):
        values, indices = next(rest), next(rest)
        shape = _shape(weight, indices.dtype)
        gradients.append(tf.IndexedSlices(values, indices, shape))
      else:
        gradients.append(next(rest))
    return gradients


def forward_function(
  name: str,
  graph: graph_function.FuncGraph,
  arguments: Sequence[packing.Item],
  stash: Sequence[packing.Item] = (),
) -> graph_function.GraphFunction:
  """The forward pass of a traced cell, which also returns a stash.

  Ops with side effects run, though nothing may need what they return.
  """
  effects = [op for op in graph.get_operations() if op._is_stateful]
  return graph_function.GraphFunction(
    name,
    graph,
    arguments,
    [*graph.outputs, *stash],
    graph_function.needed(
      [*graph.outputs, *packing.flat(stash), *effects],
      {t.op for t in graph.inputs},
    ),
  )


def _shape(weight: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
  """The shape of a weight, which may be the handle of a variable."""
  if weight.dtype == tf.resource:
    return tf.raw_ops.VariableShape(input=weight, out_type=dtype)
  return tf.shape(weight, out_type=dtype)
