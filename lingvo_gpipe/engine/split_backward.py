# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The backward pass of a cell in two functions.

The gradient graph G of a cell is cut in two. Ops that the gradients of its
inputs need are in B, all others in W:

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

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_function, packing
from lingvo_gpipe.engine.gradient_graph import Captures


@dataclasses.dataclass(frozen=True)
class Sums:
  """Weight gradients in G, of one micro-batch and added up; flat lists.

  Attributes:
    newest: Those of the micro-batch.
    before: Placeholders for the sums so far.
    after: The new sums.
  """

  newest: list[tf.Tensor]
  before: list[tf.Tensor]
  after: list[tf.Tensor]


class SplitBackward:
  """B and W of one cell."""

  def __init__(
    self,
    name: str,
    graph: graph_function.FuncGraph,
    num_ys: int,
    captures: Captures,
    data: Sequence[tf.Tensor],
    sums: Sums,
    items: Callable[[Sequence[tf.Tensor]], list[packing.Item]],
  ):
    """Cuts G.

    Args:
      name: The cell's name.
      graph: G. Its first inputs are `num_ys` gradients.
      num_ys: See above.
      captures: What it reads besides.
      data: Its tensors that are gradients of inputs; not empty.
      sums: Its weight gradients; not empty.
      items: How lists of tensors are handed from call to call.
    """
    self._name = name
    self._graph = graph
    self._sums = sums
    self._items = items
    self._captures = captures
    inputs = {t.op for t in graph.inputs}
    self._first = graph_function.needed(data, inputs)
    last = [*sums.newest, *sums.after]
    without = {*inputs, *self._first, *(t.op for t in sums.before)}
    reads = {id(t): t for t in last if t.op in without}
    for op in graph_function.needed(last, without):
      reads.update({id(t): t for t in op.inputs if t.op in without})
    # What W is given as it is; all else is handed over by B.
    self._d_ys = [i for i in range(num_ys) if id(graph.inputs[i]) in reads]
    arguments = captures.argument_inputs()
    self._arguments = [
      i
      for i, item in enumerate(arguments)
      if any(id(t) in reads for t in packing.flat([item]))
    ]
    outer = captures.outer_inputs()
    self._outer = [i for i, t in enumerate(outer) if id(t) in reads]
    self._given = [
      *(graph.inputs[i] for i in self._d_ys),
      *(arguments[i] for i in self._arguments),
      *(outer[i] for i in self._outer),
    ]
    known = {id(t) for t in packing.flat([*self._given, *sums.before])}
    self._handed = [t for key, t in reads.items() if key not in known]
    self._without = without
    self._b = graph_function.GraphFunction(
      f'{name}_backward_inputs',
      graph,
      [*graph.inputs[:num_ys], *captures.inputs(items)],
      [*data, *items(self._handed)],
      self._first,
    )
    self._num_data = len(data)
    self._w: dict[bool, graph_function.GraphFunction] = {}

  def inputs(
    self, d_ys: Sequence[tf.Tensor], captured: Sequence[tf.Tensor]
  ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Calls B; returns the gradients of inputs, and what W is handed."""
    flat = self._b([*d_ys, *captured], num_shaped=self._num_data)
    return flat[: self._num_data], flat[self._num_data :]

  def sums(
    self,
    d_ys: Sequence[tf.Tensor],
    captured: Sequence[tf.Tensor],
    handed: Sequence[tf.Tensor],
    before: Sequence[tf.Tensor] | None,
  ) -> list[tf.Tensor]:
    """Calls W; `before` is None for the first micro-batch."""
    num_outer = len(self._captures.outer)
    outer = captured[len(captured) - num_outer :]
    return self._weight_function(first=before is None)(
      [
        *(d_ys[i] for i in self._d_ys),
        *(captured[i] for i in self._arguments),
        *(outer[i] for i in self._outer),
        *handed,
        *(before or ()),
      ],
      num_shaped=0,
    )

  def _weight_function(self, *, first: bool) -> graph_function.GraphFunction:
    if first not in self._w:
      results = self._sums.newest if first else self._sums.after
      operations = graph_function.needed(results, self._without)
      with graph_function.without_control_inputs(
        self._graph, set(self._without)
      ):
        self._w[first] = graph_function.GraphFunction(
          f'{self._name}_backward_weights',
          self._graph,
          [
            *self._given,
            *self._items(self._handed),
            *([] if first else self._items(self._sums.before)),
          ],
          self._items(results),
          operations,
        )
    return self._w[first]
