# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A Lingvo layer as a cell: whatever its FProp reads, or does besides."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, hyperparams, py_utils
from lingvo.core import layers as lingvo_layers
from tensorflow.python.ops import control_flow_v2_func_graphs, gen_logging_ops

from lingvo_gpipe.engine.cell_function import (
  CellFunction,
  CellInputs,
  CellOutputs,
)
from lingvo_gpipe.engine.tensors import may_be_read_by_rows, read_by_rows
from lingvo_gpipe.pipeline import seeds, summaries, variable_stand_in
from lingvo_gpipe.pipeline.feature_extraction_layer import descendants
from lingvo_gpipe.pipeline.variable_stand_in import MovingAverageUpdate

# What a cell computes of its theta and inputs; of the outputs only `outputs`,
# `put`, `rests`, `values` and `notes` are set.
ComputeCell = Callable[[Any, CellInputs], CellOutputs]


@dataclasses.dataclass(frozen=True)
class TraceNotes:
  """What a trace of the cell says besides its outputs, for use outside.

  Attributes:
    values: The cell's values, a NestedMap: `own` of `ComputeCell`, the updates
      of `moving_averages`, the tensors of `summaries` and those `fetched`.
    own: The notes that `ComputeCell` returned.
  """

  values: py_utils.NestedMap
  updates: list[MovingAverageUpdate]
  summaries: list[summaries.Summary]
  fetched: list[lingvo_layers.FetchLayer]
  own: Any
  layer_ops: list[tuple[str, int, int]]
  seed_ops: list[tf.Operation]


@dataclasses.dataclass
class LingvoCell:
  """Traces layers of a pipeline as one cell.

  Attributes:
    collect_aux_losses: Whether layers find an AuxLossContext.
    trained: For each leaf of theta, whether it is trained; None if all are.
    by_rows_at: The cell's device, if gathers from trained variables are to read
      their rows alone; see `tensors.read_by_rows`.
  """

  pipeline: Any
  layers: Sequence[base_layer.BaseLayer]
  theta: Any
  compute: ComputeCell
  collect_aux_losses: bool
  trained: Sequence[bool] | None
  by_rows_at: str | None

  def __post_init__(self) -> None:
    self.name: str = self.layers[0].params.name
    self.weights: list[Any] = tf.nest.flatten(self.theta)
    self.tables = [
      self.by_rows_at is not None
      and (self.trained is None or self.trained[i])
      and may_be_read_by_rows(leaf, self.by_rows_at)
      for i, leaf in enumerate(self.weights)
    ]
    self._outer_values: dict[int, tf.Tensor] = {}
    self._outer_graph = (
      None if tf.executing_eagerly() else tf.get_default_graph()
    )

  @functools.cached_property
  def _accumulators(self) -> list[base_layer.Accumulator]:
    return [x for layer in self.layers for x in layer.accumulators.Flatten()]

  @property
  def carry(self) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(a.GetValue()) for a in self._accumulators]

  @functools.cached_property
  def _fetch_layers(self) -> list[lingvo_layers.FetchLayer]:
    inside = [layer for root in self.layers for layer in descendants(root)]
    return [x for x in inside if isinstance(x, lingvo_layers.FetchLayer)]

  def set_carry(self, carry: Sequence[tf.Tensor]) -> None:
    for accumulator, value in zip(self._accumulators, carry, strict=True):
      accumulator.SetValue(value)

  def body(self, inputs: CellInputs) -> CellOutputs:
    updates: list[MovingAverageUpdate] = []
    with (
      py_utils.GlobalStepContext(inputs.context.step),
      seeds.layer_scope(inputs.context, self.pipeline.layer_numbers) as scope,
      _placed_assertions(self.name, scope),
      summaries.traced()
      if tf.executing_eagerly_outside_functions()
      else contextlib.nullcontext(),
      self._aux_losses() as losses,
      self._variables_in_trace(inputs, updates),
      self._state_in_trace(inputs.carry),
    ):
      theta = tf.nest.pack_sequence_as(self.theta, inputs.weights)
      outputs = self.compute(theta, inputs)
      carry = self.carry
      fetched = self._fetched()
    added = []
    if tf.get_collection(tf.GraphKeys.SUMMARIES):
      added = summaries.collect(tf.get_default_graph())
    values = py_utils.NestedMap(
      own=outputs.values,
      moving_averages=[],
      summaries=[list(summary.tensors) for summary in added],
      fetched=list(fetched.values()),
    )
    if updates:
      context = inputs.context
      values.moving_averages = variable_stand_in.pack(updates, context)
    return dataclasses.replace(
      outputs,
      losses=losses,
      carry=carry,
      values=values.Flatten(),
      kept=[
        range(start, end)
        for path, start, end in scope.ops
        if path in self.pipeline.kept_paths
      ],
      notes=TraceNotes(
        values=values,
        updates=updates,
        summaries=added,
        fetched=list(fetched),
        own=outputs.notes,
        layer_ops=scope.ops,
        seed_ops=scope.seed_ops,
      ),
    )

  @contextlib.contextmanager
  def _aux_losses(self) -> Iterator[list[tf.Tensor]]:
    losses: list[tf.Tensor] = []
    if not self.collect_aux_losses:
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
  def _state_in_trace(self, carry: Sequence[tf.Tensor]) -> Iterator[None]:
    accumulated = [(a, a._value, a._disable_count) for a in self._accumulators]
    fetched = [(fetch, fetch._activations) for fetch in self._fetch_layers]
    for accumulator, value in zip(self._accumulators, carry, strict=True):
      accumulator._disable_count = 0
      accumulator._value = value
    try:
      yield
    finally:
      for accumulator, value, disabled in accumulated:
        accumulator._value = value
        accumulator._disable_count = disabled
      for fetch, activations in fetched:
        fetch._activations = activations

  def _fetched(self) -> dict[lingvo_layers.FetchLayer, list[tf.Tensor]]:
    graph = tf.get_default_graph()
    found = {
      layer: [
        tf.stop_gradient(t)
        for t in layer._activations or []
        if getattr(t, 'graph', None) is graph
      ]
      for layer in self._fetch_layers
    }
    return {layer: tensors for layer, tensors in found.items() if tensors}

  @contextlib.contextmanager
  def _variables_in_trace(
    self, inputs: CellInputs, updates: list[MovingAverageUpdate]
  ) -> Iterator[None]:
    given = {}
    for weight, leaf, is_table in zip(
      inputs.weights, self.weights, self.tables, strict=True
    ):
      given[id(leaf)] = weight
      if is_table:
        read_by_rows(weight, leaf)

    def stand_in(variable: tf.Variable) -> variable_stand_in.VariableStandIn:
      def read() -> tf.Tensor:
        if id(variable) in given:
          return given[id(variable)]
        value = self._outer_value(variable)
        is_trained = self.pipeline.trained_variables(variable)
        return value if is_trained else tf.stop_gradient(value)

      return variable_stand_in.VariableStandIn(
        variable, read, updates, self.name
      )

    with contextlib.ExitStack() as stack:
      for layer in self.layers:
        stack.enter_context(layer.TransformVarsTempContext(stand_in))
      yield

  def _outer_value(self, variable: tf.Variable) -> tf.Tensor:
    if id(variable) not in self._outer_values:
      graph = self._outer_graph
      outside = tf.init_scope() if graph is None else graph.as_default()
      with outside, tf.device(variable.device):
        self._outer_values[id(variable)] = tf.identity(variable)
    return self._outer_values[id(variable)]


@contextlib.contextmanager
def _placed_assertions(cell: str, scope: seeds.LayerScope) -> Iterator[None]:
  """Inside, assertions of this thread print their layer and micro-batch."""
  plain = gen_logging_ops._assert

  def placed(condition, data, summarize=None, name=None):  # type: ignore[no-untyped-def]
    if seeds.current_scope() is scope:
      where = f'in cell {cell}, layer {scope.path}'
      if _may_read(scope.context.step.graph):
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
  """Whether ops built now may use tensors of a graph around, in a branch."""
  inner = tf.get_default_graph()
  while isinstance(inner, control_flow_v2_func_graphs.CondBranchFuncGraph):
    inner = inner.outer_graph
  return inner is graph


def explain(
  cell: LingvoCell, function: CellFunction, culprits: Mapping[tf.Operation, str]
) -> list[str]:
  """What can be done about ops that cannot be repeated, one text a layer."""
  texts: dict[str, str] = {}
  for op, culprit in culprits.items():
    layer = _layer_of(cell, function, op)
    texts.setdefault(layer.path, _describe(layer, culprit))
  return list(texts.values())


def refuse_unseeded(
  cell: LingvoCell, function: CellFunction, op: tf.Operation
) -> None:
  layer = _layer_of(cell, function, op)
  raise ValueError(
    f'Layer {layer.path} ({type(layer).__name__}) draws random numbers ('
    f'{op.name}, {op.type}) whose seeds do not depend on the micro-batch: all '
    'would get the same. Layers built on recurrent.Recurrent (RNNs, '
    'RepeatLayer) set their seeds by name; turn off their dropout inside of '
    'the pipeline, or put the dropout into a layer of its own. Other layers '
    'should take seeds from py_utils.GenerateStepSeedPair.'
  )


def _layer_of(
  cell: LingvoCell, function: CellFunction, op: tf.Operation
) -> base_layer.BaseLayer:
  index = function.graph.get_operations().index(op)
  paths = [
    path
    for path, start, end in function.notes.layer_ops
    if start <= index < end
  ]
  by_path = {
    layer.path: layer for root in cell.layers for layer in descendants(root)
  }
  return by_path[max(paths, key=len)] if paths else cell.layers[0]


def _describe(layer: base_layer.BaseLayer, op_type: str) -> str:
  what = (
    f'layer {layer.path} ({type(layer).__name__}) uses {op_type}, which gives '
    'something else when it runs again'
  )
  templates = [
    f'{inner.path}.params.{name}'
    for inner in descendants(layer)
    for name, value in inner.params.IterParams()
    if isinstance(value, hyperparams.InstantiableParams)
    and value.cls is lingvo_layers.DropoutLayer
  ]
  if templates:
    return (
      f'{what}; set {" and ".join(templates)} to '
      'lingvo.core.layers.DeterministicDropoutLayer.Params()'
    )
  if 'Random' in op_type or op_type.startswith(('Stateful', 'Truncated')):
    return (
      f'{what}; draw random numbers with tf.random.stateless_* and the seeds '
      'of py_utils.GenerateStepSeedPair'
    )
  return what
