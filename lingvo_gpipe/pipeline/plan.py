# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What one mini-batch needs to run through a PipeliningLayer."""

import contextlib
import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe import schedules
from lingvo_gpipe.engine import graph_walks
from lingvo_gpipe.engine.cell_function import Cell, CellInputs, CellOutputs
from lingvo_gpipe.engine.graph_function import GraphFunction
from lingvo_gpipe.engine.tensors import (
  before_copies,
  device_indices,
  flat_tensors,
)
from lingvo_gpipe.engine.traced_cells import Functions
from lingvo_gpipe.pipeline import (
  loss,
  named_values,
  seeds,
  tied_weights,
  trained_variables,
)
from lingvo_gpipe.pipeline.feature_extraction_layer import describe, to_tuple
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell
from lingvo_gpipe.pipeline.mini_batch import (
  TARGETS_VALUE,
  Leaf,
  MiniBatch,
  SideInputs,
)
from lingvo_gpipe.schedules import Schedule, Task

# What a layer raises if it is given something else than it is written for.
_DOES_NOT_FIT = (TypeError, ValueError, AttributeError, KeyError)


@dataclasses.dataclass
class Traces:
  """What eager calls of one kind have traced, for the steps after the first.

  `variables` keep their ids, which tell the calls apart.
  """

  variables: list[tf.Variable]
  functions: Functions = dataclasses.field(default_factory=dict)
  combined: dict[Any, GraphFunction] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Order:
  schedule: Schedule
  tasks: tuple[Task, ...]
  recomputed: tuple[frozenset[int], ...]


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be run: `cells` are the `lingvo_cells` for the engine.

  With `input_gradients` backward tasks compute gradients of the inputs.
  """

  layer: Any
  training: bool
  with_loss: bool
  batch: MiniBatch
  input_gradients: bool
  side_inputs: SideInputs
  lingvo_cells: list[LingvoCell]
  order: Order
  traces: Traces
  cells: list[Cell]

  @property
  def inputs(self) -> list[Leaf]:
    return flat_tensors(self.batch.inputs)

  @property
  def devices(self) -> list[str]:
    return [cell.device for cell in self.cells]

  @property
  def num_frozen(self) -> int:
    """How many cells run forward only, in training too."""
    schedule = self.order.schedule
    if schedule.forward_only:
      return schedule.num_cells
    return schedule.first_backward


def make_plan(
  layer: Any,
  theta: Any,
  args: tuple[Any, ...],
  targets: Any,
  side_inputs: Mapping[str, Any],
  *,
  with_loss: bool,
) -> Plan:
  training = not layer.do_eval and not layer.params.is_inference
  device = layer.cell_devices[0]
  batch = MiniBatch(
    layer, args, targets, side_inputs, device, training=training
  )
  wants_aux = with_loss or py_utils.AuxLossContext.Current() is not None
  lingvo_cells = _lingvo_cells(layer, theta, training, with_loss, wants_aux)
  is_trained = layer.trained_variables
  input_gradients = graph_walks.may_need_gradients(
    [leaf.tensor for leaf in flat_tensors(batch.inputs)], is_trained.by_name
  )
  sides = SideInputs(layer, batch, training=training, with_loss=with_loss)
  first = 0
  if is_trained.filters and not input_gradients:
    values = sides.taken_as_values
    first = trained_variables.first_trained(layer, lingvo_cells, values)
  kind = training, with_loss, wants_aux, input_gradients, first
  return Plan(
    layer,
    training,
    with_loss,
    batch,
    input_gradients,
    sides,
    lingvo_cells,
    _order(layer, batch.count, training, with_loss, first),
    traces=_known_traces(layer, lingvo_cells, sides, *kind),
    cells=_cells(layer, lingvo_cells, sides),
  )


def _order(
  layer: Any, count: int, training: bool, with_loss: bool, first: int
) -> Order:
  """The schedule for M micro-batches; the layer keeps it for further calls."""
  key = count, training, with_loss, first
  if key in layer.known_orders:
    known: Order = layer.known_orders[key]
    return known
  name = layer.params.schedule if with_loss else 'gpipe'
  places = device_indices(layer.cell_devices)
  try:
    costs = None
    if name == 'auto' and training and first < len(places):
      costs = layer.OrderProblem(places, count, first)
    schedule = schedules.make_schedule(
      name,
      places,
      count,
      forward_only=not training,
      first_backward=first,
      costs=costs,
    )
  except ValueError as error:
    raise ValueError(f'{layer.path}.schedule is {name!r}: {error}') from error
  recomputed = schedules.recomputed(schedule, layer.recompute_policy)
  order = Order(schedule, schedule.in_order(), recomputed)
  layer.known_orders[key] = order
  return order


def _lingvo_cells(
  layer: Any, theta: Any, training: bool, with_loss: bool, wants_aux: bool
) -> list[LingvoCell]:
  is_trained = layer.trained_variables
  flags = None
  if is_trained.filters:
    flags = is_trained.flags(theta, layer.vars)
  if layer.has_tied_weights:
    flags = flags and tied_weights.tie(layer, flags)
    theta = tied_weights.tie(layer, theta, layer.device_of)
  # What one learner updates must not reach another's backward pass.
  by_rows = training and is_trained.num_learners < 2
  cells = []
  for k, device in enumerate(layer.cell_devices):
    layers = {layer.cells[k].params.name: layer.cells[k]}
    has_loss = with_loss and k == len(layer.cells) - 1
    if has_loss:
      layers['loss'] = layer.loss
    cells.append(
      LingvoCell(
        layer,
        list(layers.values()),
        tf.nest.map_structure(
          functools.partial(before_copies, device=device),
          [theta[name] for name in layers],
        ),
        functools.partial(compute, layer, k, 'loss' if has_loss else None),
        wants_aux,
        flags and tf.nest.flatten([flags[name] for name in layers]),
        device if by_rows else None,
      )
    )
  return cells


def _known_traces(
  layer: Any, cells: Sequence[LingvoCell], sides: SideInputs, *kind: Hashable
) -> Traces:
  """The traces of calls of one kind; in graphs none are kept."""
  leaves = [leaf for cell in cells for leaf in cell.weights]
  variables = [leaf for leaf in leaves if isinstance(leaf, tf.Variable)]
  traces = Traces(variables)
  if not tf.executing_eagerly():
    return traces
  of_cells = tuple(
    (tuple(cell.trained or ()), *cell.tables, *sides.taken_as_values(k))
    for k, cell in enumerate(cells)
  )
  specs = tuple((tuple(leaf.shape), leaf.dtype) for leaf in leaves)
  key = of_cells, specs, *map(id, variables), *kind
  known: Traces = layer.eager_traces.setdefault(key, traces)
  return known


def _cells(
  layer: Any, lingvo_cells: Sequence[LingvoCell], sides: SideInputs
) -> list[Cell]:
  split = sides.split()
  return [
    Cell(
      cell.name,
      layer.cell_devices[k],
      cell.body,
      cell.weights,
      cell.carry,
      split[k],
      puts=layer.cell_wiring[k].puts,
      takes=[*layer.cell_wiring[k].takes, *sides.taken_as_values(k)],
      trained=cell.trained,
    )
    for k, cell in enumerate(lingvo_cells)
  ]


def compute(
  layer: Any, k: int, metric: str | None, theta: list[Any], given: CellInputs
) -> CellOutputs:
  """What cell `k` computes; theta is its own, then that of the loss, if any."""
  there = {**given.side_inputs, **given.taken}
  targets = there.pop(TARGETS_VALUE, None)
  rests = [name for name in given.taken if name != TARGETS_VALUE]
  own: list[tf.Tensor] = []
  notes = None
  with contextlib.ExitStack() as stack:
    if layer.has_named_values:
      values = stack.enter_context(named_values.scope(there)).values
    outputs = _run_layers(layer, k, theta[0], given.inputs)
    if metric is not None:
      metrics = _run_loss(layer, theta[1], outputs, targets)
      outputs, own, notes = loss.in_cell(layer.loss, metrics, metric)
  puts = layer.cell_wiring[k].puts
  missing = set(puts) - values.keys() if puts else ()
  if missing:
    raise ValueError(
      f'{layer.path}: a layer of cell {layer.cells[k].params.name!r} '
      f'declares that it puts {sorted(missing)}, but its FProp did not.'
    )
  return CellOutputs(
    outputs,
    values=own,
    put={name: values[name] for name in puts},
    rests={name: values[name] for name in rests},
    notes=notes,
  )


def _run_layers(layer: Any, k: int, theta: Any, inputs: Any) -> Any:
  cell = layer.cells[k]
  try:
    with seeds.in_layer(cell.path):
      return cell.FProp(theta, *to_tuple(inputs))
  except _DOES_NOT_FIT as error:
    source = 'the pipeline was given'
    if k:
      source = f'cell {layer.cells[k - 1].params.name!r} returns'
    raise ValueError(
      f'{layer.path}: cell {cell.params.name!r} cannot run on what {source}, '
      f'{describe(inputs)}: {error}{_on_dicts(inputs)}'
    ) from error


def _run_loss(layer: Any, theta: Any, outputs: Any, targets: Any) -> Any:
  try:
    with seeds.in_layer(layer.loss.path):
      return layer.loss.FProp(theta, outputs, targets)
  except _DOES_NOT_FIT as error:
    raise ValueError(
      f'{layer.path}: the loss, {layer.loss.path} '
      f'({type(layer.loss).__name__}), cannot run on what cell '
      f'{layer.cells[-1].params.name!r} returns, {describe(outputs)}, and the '
      f'targets, {describe(targets)}: {error}{_on_dicts((outputs, targets))}'
    ) from error


def _on_dicts(nest: Any) -> str:
  if type(nest) is dict:
    return ' (a dict is given; what reads `inputs.x` needs a NestedMap)'
  parts = nest if isinstance(nest, list | tuple) else ()
  return next(filter(None, map(_on_dicts, parts)), '')
