# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What one mini-batch needs to run through a PipeliningLayer.

```
  theta, inputs, targets, side inputs --> Plan --> the cells' traces
```
"""

import contextlib
import dataclasses
import functools
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe import schedules
from lingvo_gpipe.engine import graph_walks
from lingvo_gpipe.engine.cell_function import CellInputs, CellOutputs
from lingvo_gpipe.engine.graph_function import GraphFunction
from lingvo_gpipe.engine.tensors import (
  before_copies,
  device_indices,
  flat_tensors,
)
from lingvo_gpipe.engine.traced_cells import Cell, Functions, TracedCells
from lingvo_gpipe.pipeline import (
  loss,
  named_values,
  random_checks,
  seeds,
  tied_weights,
  trained_variables,
)
from lingvo_gpipe.pipeline.feature_extraction_layer import describe, to_tuple
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell
from lingvo_gpipe.pipeline.mini_batch import (
  INPUTS,
  SIDE_INPUTS,
  TARGETS,
  TARGETS_VALUE,
  Leaf,
  MiniBatch,
  SideInputs,
)
from lingvo_gpipe.pipeline.output_dims import OutputDims
from lingvo_gpipe.schedules import Schedule, Task

# What a layer raises if it is given something else than it is written for.
_DOES_NOT_FIT = (TypeError, ValueError, AttributeError, KeyError)


@dataclasses.dataclass
class Traces:
  """What calls of one kind have traced.

  In a graph a pipeline is built once. Eagerly its FProp is called for each
  step, and to trace the cells takes many times as long as to run them. So the
  layer keeps the traces.

  Attributes:
    variables: The weights that the traces know by their identity.
    functions: The cells' functions, for inputs of some shapes.
    combined: Functions that combine metrics, by the metrics.
  """

  variables: list[tf.Variable]
  functions: Functions = dataclasses.field(default_factory=dict)
  combined: dict[Any, GraphFunction] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is to be run.

  Attributes:
    layer: The PipeliningLayer.
    training: Whether there are to be gradients.
    with_loss: Whether the loss is in the last cell.
    batch: The mini-batch.
    input_gradients: Whether backward tasks compute gradients of the inputs.
    side_inputs: The side inputs.
    lingvo_cells: The cells, as made of layers.
    schedule: The schedule.
    tasks: Its tasks, in one order.
    recomputed: For each cell, which micro-batches are recomputed.
    traces: What such cells were traced to before.
    cells: The cells, as the engine takes them.
    micro_batches: The inputs of each micro-batch.
    given: The side inputs that have gradients, by name, for each micro-batch.
  """

  layer: Any
  training: bool
  with_loss: bool
  batch: MiniBatch
  input_gradients: bool
  side_inputs: SideInputs
  lingvo_cells: list[LingvoCell]
  schedule: Schedule
  tasks: tuple[Task, ...]
  recomputed: tuple[frozenset[int], ...]
  traces: Traces
  cells: list[Cell]
  micro_batches: list[Any]
  given: dict[str, list[Any]]

  @property
  def inputs(self) -> list[Leaf]:
    """The pipeline's inputs."""
    return flat_tensors(self.batch.given[INPUTS])

  @property
  def devices(self) -> list[str]:
    """The device of each cell."""
    return [cell.device for cell in self.cells]

  @property
  def num_frozen(self) -> int:
    """How many cells run forward only, in training too."""
    schedule = self.schedule
    if schedule.forward_only:
      return schedule.num_cells
    return schedule.first_backward

  def trace(
    self, cells: Sequence[Cell], functions: Functions | None = None
  ) -> TracedCells:
    """Traces the cells, or others in their place."""
    return TracedCells(
      cells,
      self.schedule,
      self.micro_batches,
      self.given,
      input_gradients=self.input_gradients,
      weighted=self.with_loss,
      functions=functions,
    )

  def output_dims(self, traced: TracedCells | None) -> OutputDims:
    """Where what the cells return counts the examples."""
    return OutputDims(
      self.layer.path,
      self.batch,
      self.cells,
      self.side_inputs,
      self.traces.functions,
      traced,
    )


def make_plan(
  layer: Any,
  theta: Any,
  args: tuple[Any, ...],
  targets: Any,
  side_inputs: Mapping[str, Any],
  *,
  with_loss: bool,
) -> Plan:
  """Splits a mini-batch, and makes the cells and the schedule for it.

  Args:
    layer: The PipeliningLayer.
    theta: Its weights.
    args: The first cell's arguments.
    targets: What the loss takes besides, if it is in the pipeline.
    side_inputs: Values that layers take, by name.
    with_loss: Whether it is.
  """
  p = layer.params
  training = not layer.do_eval and not p.is_inference
  devices = layer.cell_devices
  given = {INPUTS: args, TARGETS: targets, SIDE_INPUTS: dict(side_inputs)}
  batch = MiniBatch(p, layer.path, given, devices[0], training=training)
  seeds.check_capacity(len(layer.layer_numbers), batch.count)
  wants_aux = with_loss or py_utils.AuxLossContext.Current() is not None
  lingvo_cells = _lingvo_cells(layer, theta, training, with_loss, wants_aux)
  input_gradients = graph_walks.may_need_gradients(
    [leaf.tensor for leaf in flat_tensors(batch.given[INPUTS])],
    layer.trained_variables.by_name,
  )
  sides = SideInputs(layer, batch, training=training, with_loss=with_loss)
  first = 0
  if layer.trained_variables.filters and not input_gradients:
    values = sides.taken_as_values
    first = trained_variables.first_trained(layer, lingvo_cells, values)
  name = p.schedule if with_loss else 'gpipe'
  places = device_indices(devices)
  costs = None
  if name == 'auto' and training and first < len(devices):
    costs = layer.OrderProblem(places, batch.count, first)
  try:
    scheduled = _schedule(
      name,
      layer.recompute_policy,
      places,
      batch.count,
      forward_only=not training,
      first_backward=first,
      costs=costs,
    )
  except ValueError as error:
    raise ValueError(f'{layer.path}.schedule is {name!r}: {error}') from error
  kind = training, with_loss, wants_aux, input_gradients, first
  return Plan(
    layer,
    training,
    with_loss,
    batch,
    input_gradients,
    sides,
    lingvo_cells,
    *scheduled,
    traces=_known_traces(layer, lingvo_cells, sides, *kind),
    micro_batches=batch.split(batch.given[INPUTS], devices[0]),
    given=sides.split_values(),
    cells=_cells(layer, lingvo_cells, sides),
  )


def _schedule(
  name: str, *args: Any, **kwargs: Any
) -> tuple[Schedule, tuple[Task, ...], tuple[frozenset[int], ...]]:
  """As `_known_schedule`; each eager step needs it."""
  # What others call a schedule may come to be another one.
  is_lasting = name in schedules.SCHEDULE_NAMES
  find = _known_schedule if is_lasting else _known_schedule.__wrapped__
  return find(name, *args, **kwargs)


@functools.lru_cache(maxsize=64)
def _known_schedule(
  name: str,
  recompute: str,
  cell_devices: tuple[int, ...],
  num_micro_batches: int,
  **kwargs: Any,
) -> tuple[Schedule, tuple[Task, ...], tuple[frozenset[int], ...]]:
  """A schedule, its tasks in order, and what is recomputed."""
  schedule = schedules.make_schedule(
    name, cell_devices, num_micro_batches, **kwargs
  )
  recomputed = schedules.recomputed(schedule, recompute)
  return schedule, schedule.in_order(), recomputed


def _lingvo_cells(
  layer: Any, theta: Any, training: bool, with_loss: bool, wants_aux: bool
) -> list[LingvoCell]:
  """The cells, the last one with the loss if that is inside."""
  is_trained = layer.trained_variables
  flags = None
  if is_trained.filters:
    flags = trained_variables.flags(theta, layer.vars, is_trained)
  if layer.has_tied_weights:
    flags = flags and tied_weights.tie(layer, flags)
    theta = tied_weights.tie(layer, theta, layer.device_of)
  # What one learner updates must not reach another's backward pass.
  by_rows = training and is_trained.num_learners < 2
  cells = []
  for k, (cell, device) in enumerate(
    zip(layer.cells, layer.cell_devices, strict=True)
  ):
    has_loss = with_loss and k == len(layer.cells) - 1
    layers, names = [cell], [cell.params.name]
    if has_loss:
      layers, names = [cell, layer.loss], [cell.params.name, 'loss']
    cells.append(
      LingvoCell(
        cell.params.name,
        layers,
        tf.nest.map_structure(
          functools.partial(before_copies, device=device),
          [theta[name] for name in names],
        ),
        functools.partial(compute, layer, k, 'loss' if has_loss else None),
        layer.layer_numbers,
        collect_aux_losses=wants_aux,
        trained=flags and tf.nest.flatten([flags[name] for name in names]),
        is_trained=is_trained,
        by_rows_at=device if by_rows else None,
        kept=layer.kept_paths,
      )
    )
  return cells


def _known_traces(
  layer: Any,
  cells: Sequence[LingvoCell],
  sides: SideInputs,
  *kind: Hashable,
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
  """The cells as the engine takes them."""
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


# -- What a cell computes.


def compute(
  layer: Any, k: int, metric: str | None, theta: list[Any], given: CellInputs
) -> CellOutputs:
  """Called while cell `k` is traced; see `lingvo_cell.ComputeCell`.

  Args:
    layer: The PipeliningLayer.
    k: The cell's number.
    metric: The metric that is differentiated, if the loss is in the cell.
    theta: The cell's weights, then the loss's if it is in the cell.
    given: Its inputs; the side inputs are (targets, values by name). What of
      these has a gradient is among the values taken instead.
  """
  targets, side_inputs = given.side_inputs
  taken = dict(given.taken)
  targets = taken.pop(TARGETS_VALUE, targets)
  own: list[tf.Tensor] = []
  notes = None
  with contextlib.ExitStack() as stack:
    if layer.has_named_values:
      scope = named_values.scope({**side_inputs, **taken})
      values = stack.enter_context(scope)
    outputs = _run_layers(layer, k, theta[0], given.inputs)
    if metric is not None:
      metrics = _run_loss(layer, theta[1], outputs, targets)
      outputs, own, notes = loss.in_cell(layer.loss, metrics, metric)
  puts = layer.cell_wiring[k].puts
  missing = set(puts) - set(values.put_names) if puts else ()
  if missing:
    raise ValueError(
      f'{layer.path}: a layer of cell {layer.cells[k].params.name!r} '
      f'declares that it puts {sorted(missing)}, but its FProp did not.'
    )
  return CellOutputs(
    outputs,
    values=own,
    put={name: values.rest(name) for name in puts},
    rests={name: values.rest(name) for name in taken},
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
  """What to do if a layer that takes a NestedMap was given a plain dict."""
  if type(nest) is dict:
    return ' (a dict is given; what reads `inputs.x` needs a NestedMap)'
  parts = nest if isinstance(nest, list | tuple) else ()
  return next(filter(None, map(_on_dicts, parts)), '')


# -- Tracing.


def trace(plan: Plan) -> TracedCells:
  """Traces the cells, and checks what is in them.

  Raises:
    ValueError: A layer does not fit the others, or cannot be in a pipeline.
  """
  functions = plan.traces.functions
  num_known = len(functions)
  try:
    traced = plan.trace(plan.cells, functions)
  except Exception as error:
    plan.output_dims(None).explain(error)
    raise
  if plan.batch.count > 1 and plan.batch.sizes[0] == 1:
    plan.output_dims(traced).check_single_examples()
  if any(f.captures for row in functions.values() for f in row):
    _forget(plan)
  if plan.training and len(functions) > num_known:
    _check_random_ops(plan, traced)
    for k in range(plan.num_frozen):
      captures = traced.function(k).captures
      trained_variables.check_captures(plan.layer, k, captures)
  return traced


def _forget(plan: Plan) -> None:
  """Drops traces that hold a value of the call that they were made in."""
  kept = plan.layer.eager_traces
  for kind in [kind for kind, other in kept.items() if other is plan.traces]:
    del kept[kind]


def _check_random_ops(plan: Plan, traced: TracedCells) -> None:
  """Refuses seeds that are all the same; says what is not recomputed."""
  if plan.batch.count > 1:
    for k, cell in enumerate(plan.lingvo_cells):
      function = traced.function(k)
      op = graph_walks.unseeded(function.graph, function.notes.seed_ops)
      if op is not None:
        random_checks.refuse_unseeded(cell, function, op)
  if plan.layer.recompute_policy == 'never':
    return
  for what in unrepeatable(plan, traced, first=plan.num_frozen):
    tf.logging.warning(
      '%s: %s. What it returned is kept in memory for the backward pass.',
      plan.layer.path,
      what,
    )


def unrepeatable(
  plan: Plan, traced: TracedCells, first: int = 0, end: int | None = None
) -> list[str]:
  """What recomputation cannot repeat in cells `first` to `end`, in words."""
  by_layer: dict[str, str] = {}
  for k, cell in list(enumerate(plan.lingvo_cells))[first:end]:
    function = traced.function(k)
    culprits = graph_walks.unrepeatable(function.graph)
    if culprits:
      by_layer |= random_checks.explain(cell, function, culprits)
  return list(by_layer.values())
