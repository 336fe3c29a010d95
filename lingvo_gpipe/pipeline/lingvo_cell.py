# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A Lingvo layer as a cell of the engine.

A layer's FProp does more than map inputs to outputs: it reads the global step
and the step seed, moves accumulators on, updates moving averages, adds
auxiliary losses and summaries, and leaves activations in fetch layers. Inside
a traced function each of these would be lost, or would happen once too often.
`LingvoCell` turns each into an input or an output of the cell.
"""

import contextlib
import copy
import dataclasses
import itertools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils
from lingvo.core import layers as lingvo_layers
from tensorflow.python.ops import (
  control_flow_v2_func_graphs,
  gen_logging_ops,
)

from lingvo_gpipe.engine.cell_function import CellInputs, CellOutputs
from lingvo_gpipe.engine.tensors import may_be_read_by_rows, read_by_rows
from lingvo_gpipe.pipeline import moving_averages, seeds, summaries
from lingvo_gpipe.pipeline.feature_extraction_layer import descendants
from lingvo_gpipe.pipeline.variable_stand_in import (
  MovingAverageUpdate,
  VariableStandIn,
)

# What a cell computes of its theta and inputs; of the outputs only `outputs`,
# `put`, `rests`, `values` and `notes` are set.
ComputeCell = Callable[[Any, CellInputs], CellOutputs]


@dataclasses.dataclass(frozen=True)
class TraceNotes:
  """What a trace of the cell says besides its outputs, for use outside.

  Attributes:
    updates: Updates of moving averages.
    summaries: The summaries that layers added.
    fetched: For each fetch layer of the cell, how many tensors it fetched.
    num_own_values: How many values `ComputeCell` itself returned.
    own: The notes that it returned.
    layer_ops: See `seeds.LayerScope`, as for `seed_ops`.
    seed_ops: See there.
  """

  updates: list[MovingAverageUpdate]
  summaries: list[summaries.Summary]
  fetched: list[tuple[lingvo_layers.FetchLayer, int]]
  num_own_values: int
  own: Any
  layer_ops: list[tuple[str, int, int]]
  seed_ops: list[tf.Operation]

  def split(self, values: Sequence[Any]) -> 'Values':
    """Tells the values of one call apart."""
    rest = iter(values)

    def take(count: int) -> list[Any]:
      return list(itertools.islice(rest, count))

    return Values(
      own=take(self.num_own_values),
      moving_averages=take(2 if self.updates else 0),
      summaries=[take(len(s.tensors)) for s in self.summaries],
      fetched=[take(count) for _, count in self.fetched],
    )


@dataclasses.dataclass(frozen=True)
class Values:
  """The values of one call, told apart."""

  own: list[Any]
  moving_averages: list[Any]
  summaries: list[list[Any]]
  fetched: list[list[Any]]


class LingvoCell:
  """Traces layers as one cell.

  Attributes:
    name: The cell's name.
    layers: The layers that it uses.
    theta: Their weights, a nest.
    trained: For each leaf of theta, whether it is trained; None if all are.
    tables: For each leaf of theta, whether it is read by rows alone.
  """

  def __init__(
    self,
    name: str,
    layers: Sequence[base_layer.BaseLayer],
    theta: Any,
    compute: ComputeCell,
    numbers: Mapping[str, int],
    *,
    collect_aux_losses: bool,
    trained: Sequence[bool] | None = None,
    is_trained: Callable[[tf.Variable], bool] = lambda variable: True,
    by_rows_at: str | None = None,
    kept: Container[str] = (),
  ):
    """Prepares the cell.

    Args:
      name: See above, as for all that is not here.
      layers: See above.
      theta: See above.
      compute: What the cell computes.
      numbers: The number of each layer of the pipeline, by its path.
      collect_aux_losses: Whether auxiliary losses are wanted. Layers find no
        AuxLossContext if not.
      trained: See above.
      is_trained: The same of a variable, for those that layers read themselves.
      by_rows_at: The cell's device, if gathers from trained variables are to
        read their rows alone; see `tensors.read_by_rows`.
      kept: Paths of layers that are not recomputed.
    """
    self.name = name
    self.theta = theta
    self.layers = layers
    self.trained = trained
    self.tables = [
      by_rows_at is not None
      and (trained is None or trained[i])
      and may_be_read_by_rows(leaf, by_rows_at)
      for i, leaf in enumerate(self.weights)
    ]
    self._compute = compute
    self._numbers = numbers
    self._is_trained = is_trained
    self._kept = kept
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

  def computing(self, compute: ComputeCell) -> 'LingvoCell':
    """The same cell, which computes something else."""
    other = copy.copy(self)
    other._compute = compute
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
    with (
      py_utils.GlobalStepContext(inputs.context.step),
      seeds.layer_scope(inputs.context, self._numbers) as scope,
      _placed_assertions(self.name, scope),
      summaries.traced()
      if tf.executing_eagerly_outside_functions()
      else contextlib.nullcontext(),
      self._aux_losses() as losses,
      self._variables_in_trace(inputs, updates),
      self._accumulators_in_trace(inputs.carry),
      self._activations_in_trace(),
    ):
      theta = tf.nest.pack_sequence_as(self.theta, inputs.weights)
      outputs = self._compute(theta, inputs)
      carry = self.carry
      fetched = self._fetched()
    added = []
    if tf.get_collection(tf.GraphKeys.SUMMARIES):
      added = summaries.collect(tf.get_default_graph())
    return dataclasses.replace(
      outputs,
      losses=losses,
      carry=carry,
      values=[
        *outputs.values,
        *(moving_averages.pack(updates, inputs.context) if updates else ()),
        *(t for summary in added for t in summary.tensors),
        *(t for _, tensors in fetched for t in tensors),
      ],
      kept=[
        range(start, end)
        for path, start, end in scope.ops
        if path in self._kept
      ],
      notes=TraceNotes(
        updates=updates,
        summaries=added,
        fetched=[(layer, len(tensors)) for layer, tensors in fetched],
        num_own_values=len(outputs.values),
        own=outputs.notes,
        layer_ops=scope.ops,
        seed_ops=scope.seed_ops,
      ),
    )

  @contextlib.contextmanager
  def _aux_losses(self) -> Iterator[list[tf.Tensor]]:
    """Yields a list that has the auxiliary losses when the context is left."""
    losses: list[tf.Tensor] = []
    if not self._collect_aux_losses:
      yield losses
      return
    with py_utils.AuxLossContext(reentrant=True) as aux:
      yield losses
    losses += aux.aux_losses
    for loss in losses:
      if loss.shape.rank != 0:
        raise ValueError(
          f'Cell {self.name!r} adds an auxiliary loss of shape {loss.shape}; '
          'in a pipeline it must be a scalar. Reduce it in the layer that '
          'calls AuxLossContext.AddLoss.'
        )

  @contextlib.contextmanager
  def _accumulators_in_trace(
    self, carry: Sequence[tf.Tensor]
  ) -> Iterator[None]:
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
  def _activations_in_trace(self) -> Iterator[None]:
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

  @contextlib.contextmanager
  def _variables_in_trace(
    self, inputs: CellInputs, updates: list[MovingAverageUpdate]
  ) -> Iterator[None]:
    """Inside, layers find stand-ins in place of their variables."""
    for weight, leaf, is_table in zip(
      inputs.weights, self.weights, self.tables, strict=True
    ):
      if is_table:
        read_by_rows(weight, leaf)
    given = {
      id(leaf): weight
      for leaf, weight in zip(self.weights, inputs.weights, strict=True)
    }

    def stand_in(variable: tf.Variable) -> VariableStandIn:
      def read() -> tf.Tensor:
        if id(variable) in given:
          return given[id(variable)]
        value = self._outer_value(variable)
        return value if self._is_trained(variable) else tf.stop_gradient(value)

      return VariableStandIn(variable, read, updates, self.name)

    with contextlib.ExitStack() as stack:
      for layer in self.layers:
        stack.enter_context(layer.TransformVarsTempContext(stand_in))
      yield

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


@contextlib.contextmanager
def _placed_assertions(cell: str, scope: seeds.LayerScope) -> Iterator[None]:
  """Inside, assertions of this thread also print where they are.

  A cell is one function that every micro-batch calls, so TensorFlow's own text
  names neither the layer nor the micro-batch.
  """
  plain = gen_logging_ops._assert

  def placed(condition, data, summarize=None, name=None):  # type: ignore[no-untyped-def]
    if seeds.current_scope() is scope:
      where = f'in cell {cell}, layer {scope.path}'
      if _may_read(scope.context.vector.graph):
        number = tf.cast(scope.context.micro_batch, tf.int32)
        data = [*data, f'{where}, micro-batch', number]
      else:
        data = [*data, where]
    return plain(condition, data, summarize, name)

  gen_logging_ops._assert = placed
  try:
    yield
  finally:
    gen_logging_ops._assert = plain


def _may_read(graph: tf.Graph) -> bool:
  """Whether what is built now may use tensors of a graph around it.

  A branch may. Lingvo's recurrent layers have functions that may not.
  """
  inner = tf.get_default_graph()
  while isinstance(inner, control_flow_v2_func_graphs.CondBranchFuncGraph):
    inner = inner.outer_graph
  return inner is graph
