# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A Lingvo layer as a cell of the engine.

A layer's FProp does more than map inputs to outputs: it reads the global step
and the step seed, moves accumulators on, updates moving averages, adds
auxiliary losses and summaries, and leaves activations in fetch layers. Inside
a traced function each of these would be lost, or would happen once too often.
`LingvoCell` turns each into an input or an output of the cell, and hands it on
outside:

```
                 weights  context  carry (accumulators)
                    |        |        |
  inputs ------> [ trace of layer.FProp ] ------> outputs
                    |        |        |
               aux losses  values   carry
                             |
       moving averages, summaries, fetched activations, metrics
```
"""

import contextlib
import copy
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils
from lingvo.core import layers as lingvo_layers

from lingvo_gpipe.engine.cell_function import CellInputs, CellOutputs
from lingvo_gpipe.pipeline import (
  moving_averages,
  placed_assertions,
  seeds,
  summaries,
)
from lingvo_gpipe.pipeline.variable_stand_in import (
  MovingAverageUpdate,
  VariableStandIn,
  may_be_read_by_rows,
  read_by_rows,
)

# What a cell computes of its theta and inputs; of the outputs only `outputs`,
# `put`, `rests` and `values` are set.
CellFProp = Callable[[Any, CellInputs], CellOutputs]


@dataclasses.dataclass
class Trace:
  """What a trace of the cell found, for use outside.

  Attributes:
    updates: Updates of moving averages.
    summaries: The summaries that layers added.
    fetched: For each fetch layer of the cell, how many tensors it fetched.
    num_own_values: How many values `CellFProp` itself returned.
    layer_ops: See `seeds.LayerScope.ops`.
    seed_ops: See `seeds.LayerScope.seed_ops`.
  """

  updates: list[MovingAverageUpdate]
  summaries: list[summaries.Summary]
  fetched: list[tuple[lingvo_layers.FetchLayer, int]]
  num_own_values: int
  layer_ops: list[tuple[str, int, int]]
  seed_ops: list[tf.Operation]


@dataclasses.dataclass
class Values:
  """The values of one call, told apart."""

  own: list[tf.Tensor]
  moving_averages: list[tf.Tensor]
  summaries: list[list[tf.Tensor]]
  fetched: list[list[tf.Tensor]]


class LingvoCell:
  """Traces layers as one cell, and keeps what the trace found."""

  def __init__(
    self,
    name: str,
    layers: Sequence[base_layer.BaseLayer],
    theta: Any,
    fprop: CellFProp,
    numbers: Mapping[str, int],
    *,
    collect_aux_losses: bool,
    trained: Sequence[bool] | None = None,
    is_trained: Callable[[tf.Variable], bool] = lambda variable: True,
    by_rows_at: str | None = None,
  ):
    """Prepares the cell.

    Args:
      name: The cell's name.
      layers: The layers that `fprop` uses.
      theta: Their weights: a nest whose leaves are tensors or variables.
      fprop: What the cell computes.
      numbers: The number of each layer of the pipeline, by its path.
      collect_aux_losses: Whether auxiliary losses are wanted. Layers find no
        AuxLossContext if not.
      trained: For each leaf of theta, whether it is trained; None if all are.
      is_trained: The same of a variable, for those that layers read themselves.
      by_rows_at: The cell's device, if gathers from trained variables are to
        read their rows alone; see `variable_stand_in.read_by_rows`.
    """
    self.name = name
    self.theta = theta
    self.layers = layers
    self._fprop = fprop
    self._numbers = numbers
    self.trained = trained
    self._is_trained = is_trained
    self.tables = [
      by_rows_at is not None
      and trains
      and may_be_read_by_rows(leaf, by_rows_at)
      for leaf, trains in zip(
        self.weights, trained or itertools.repeat(True), strict=False
      )
    ]
    self._collect_aux_losses = collect_aux_losses
    self._accumulators = [
      accumulator
      for layer in layers
      for accumulator in layer.accumulators.Flatten()
    ]
    self._outer_values: dict[int, tf.Tensor] = {}
    self._outer_graph = (
      None if tf.executing_eagerly() else tf.get_default_graph()
    )
    self.trace: Trace | None = None

  def with_fprop(self, fprop: CellFProp) -> 'LingvoCell':
    """The same cell, not traced yet, which computes something else."""
    other = copy.copy(self)
    other._fprop, other.trace = fprop, None
    return other

  @property
  def weights(self) -> list[Any]:
    """The leaves of theta, in order."""
    return tf.nest.flatten(self.theta)

  @property
  def carry(self) -> list[tf.Tensor]:
    """The accumulators' values now."""
    return [
      tf.convert_to_tensor(accumulator.GetValue())
      for accumulator in self._accumulators
    ]

  def set_carry(self, carry: Sequence[tf.Tensor]) -> None:
    """Sets the accumulators, outside of the cell."""
    for accumulator, value in zip(self._accumulators, carry, strict=True):
      accumulator.SetValue(value)

  def body(self, inputs: CellInputs) -> CellOutputs:
    """The cell's body, run by the engine while it traces."""
    updates: list[MovingAverageUpdate] = []
    with contextlib.ExitStack() as stack:
      enter = stack.enter_context
      enter(py_utils.GlobalStepContext(inputs.context.step))
      scope = enter(seeds.layer_scope(inputs.context, self._numbers))
      enter(placed_assertions.placed(self.name, scope))
      enter(summaries.traced())
      aux = None
      if self._collect_aux_losses:
        aux = enter(py_utils.AuxLossContext(reentrant=True))
      for layer in self.layers:
        enter(layer.TransformVarsTempContext(self._stand_in(inputs, updates)))
      enter(self._accumulators_in_trace(inputs.carry))
      enter(self._activations_in_trace())
      for weight, leaf, is_table in zip(
        inputs.weights, self.weights, self.tables, strict=True
      ):
        if is_table:
          read_by_rows(weight, leaf)
      theta = tf.nest.pack_sequence_as(self.theta, inputs.weights)
      outputs = self._fprop(theta, inputs)
      carry = [tf.convert_to_tensor(a.GetValue()) for a in self._accumulators]
      fetched = self._fetched()
    found = summaries.collect(tf.get_default_graph())
    packed = moving_averages.pack(updates, inputs.context)
    if self.trace is None:
      self.trace = Trace(
        updates=updates,
        summaries=found,
        fetched=[(layer, len(tensors)) for layer, tensors in fetched],
        num_own_values=len(outputs.values),
        layer_ops=scope.ops,
        seed_ops=scope.seed_ops,
      )
    return dataclasses.replace(
      outputs,
      losses=self._aux_losses(aux),
      carry=carry,
      values=[
        *outputs.values,
        *packed,
        *(t for summary in found for t in summary.tensors),
        *(t for _, tensors in fetched for t in tensors),
      ],
    )

  def split_values(self, values: Sequence[tf.Tensor]) -> Values:
    """Tells the values of one call apart."""
    rest = iter(values)

    def take(count: int) -> list[tf.Tensor]:
      return [next(rest) for _ in range(count)]

    trace = self.trace
    assert trace is not None
    return Values(
      own=take(trace.num_own_values),
      moving_averages=take(2 if trace.updates else 0),
      summaries=[take(len(s.tensors)) for s in trace.summaries],
      fetched=[take(count) for _, count in trace.fetched],
    )

  @contextlib.contextmanager
  def _accumulators_in_trace(self, carry: Sequence[tf.Tensor]):
    """Inside, the accumulators hold values of the traced graph."""
    before = [(a, a._value, a._disable_count) for a in self._accumulators]
    for accumulator, value in zip(self._accumulators, carry, strict=True):
      accumulator._disable_count = 0
      accumulator._value = value
    try:
      yield
    finally:
      for accumulator, value, disabled in before:
        accumulator._value = value
        accumulator._disable_count = disabled

  def _aux_losses(self, aux: Any) -> list[tf.Tensor]:
    losses = [] if aux is None else aux.aux_losses
    for loss in losses:
      if loss.shape.rank != 0:
        raise ValueError(
          f'Cell {self.name!r} adds an auxiliary loss of shape {loss.shape}; '
          'in a pipeline it must be a scalar. Reduce it in the layer that '
          'calls AuxLossContext.AddLoss.'
        )
    return list(losses)

  def _fetched(
    self,
  ) -> list[tuple[lingvo_layers.FetchLayer, list[tf.Tensor]]]:
    """The fetch layers of the cell, with what they fetched in this trace."""
    graph = tf.get_default_graph()
    found = []
    for layer in self._fetch_layers():
      tensors = [
        tf.stop_gradient(t)
        for t in layer._activations or []
        if getattr(t, 'graph', None) is graph
      ]
      if tensors:
        found.append((layer, tensors))
    return found

  def _fetch_layers(self) -> list[lingvo_layers.FetchLayer]:
    return [
      layer
      for root in self.layers
      for layer in descendants(root)
      if isinstance(layer, lingvo_layers.FetchLayer)
    ]

  @contextlib.contextmanager
  def _activations_in_trace(self):
    """Inside, fetch layers may hold activations of the traced graph.

    A cell can be traced again after its activations have been handed out, when
    gradients of the pipeline's inputs are asked for.
    """
    before = [(fetch, fetch._activations) for fetch in self._fetch_layers()]
    try:
      yield
    finally:
      for fetch, activations in before:
        fetch._activations = activations

  def _stand_in(
    self, inputs: CellInputs, updates: list[MovingAverageUpdate]
  ) -> Callable[[tf.Variable], VariableStandIn]:
    """Makes the function that puts stand-ins in place of variables."""
    given = {
      id(leaf): weight
      for leaf, weight in zip(self.weights, inputs.weights, strict=True)
    }

    def make(variable: tf.Variable) -> VariableStandIn:
      def read() -> tf.Tensor:
        if id(variable) in given:
          return given[id(variable)]
        value = self._outer_value(variable)
        return value if self._is_trained(variable) else tf.stop_gradient(value)

      return VariableStandIn(variable, read, updates, self.name)

    return make

  def _outer_value(self, variable: tf.Variable) -> tf.Tensor:
    """The variable's value, read once outside of the cell."""
    if id(variable) not in self._outer_values:
      with contextlib.ExitStack() as stack:
        if self._outer_graph is None:
          stack.enter_context(tf.init_scope())
        else:
          stack.enter_context(self._outer_graph.as_default())
        stack.enter_context(tf.device(variable.device))
        value = tf.identity(variable)
      self._outer_values[id(variable)] = value
    return self._outer_values[id(variable)]


def descendants(layer: base_layer.BaseLayer) -> list[base_layer.BaseLayer]:
  """The layer and all layers in it."""
  found = [layer]
  for child in py_utils.Flatten(layer.children):
    found += descendants(child)
  return found
