# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One mini-batch through a PipeliningLayer: from theta and inputs to outputs.

It joins the layer's cells to the engine, before and after:

```
  inputs ---split--> engine --merge--> outputs, with a gradient function
  targets      -'      |
  side inputs -'       '--> accumulators, moving averages, summaries, ...
```
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.engine import (
  cell_function,
  engine,
  micro_batches,
  placement,
  tensor_specs,
)
from lingvo_gpipe.pipeline import (
  cell_effects,
  eager_traces,
  frozen_cells,
  input_gradients,
  loss_pass,
  moving_averages,
  random_checks,
  seeds,
  tied_weights,
  trained_variables,
)
from lingvo_gpipe.pipeline.cell_fprop import CellFProp
from lingvo_gpipe.pipeline.gradients import PipelineGradients
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell
from lingvo_gpipe.pipeline.loss import AUX, PipelineLoss
from lingvo_gpipe.pipeline.loss_pass import LossPass
from lingvo_gpipe.pipeline.mini_batch import (
  INPUTS,
  SIDE_INPUTS,
  TARGETS,
  MiniBatch,
)
from lingvo_gpipe.pipeline.output_dims import OutputDims
from lingvo_gpipe.pipeline.side_inputs import SideInputs
from lingvo_gpipe.schedules import Schedule, TaskKind, make_schedule
from lingvo_gpipe.schedules.emitted import EmittedSchedule


class PipelineRun:
  """Runs a mini-batch; `outputs` or `metrics` then gives the result."""

  def __init__(
    self,
    layer,
    theta,
    args: tuple[Any, ...],
    targets: Any = None,
    side_inputs: Mapping[str, Any] | None = None,
    *,
    with_loss: bool,
  ):
    """Traces the cells and emits what can run before gradients are known.

    Args:
      layer: The PipeliningLayer.
      theta: Its weights.
      args: The first cell's arguments, of the mini-batch.
      targets: The loss's targets; None if it needs none.
      side_inputs: Values that layers take, by name.
      with_loss: Whether the loss is in the pipeline.
    """
    p = layer.params
    self._layer = layer
    self._devices = layer.cell_devices
    self._training = not layer.do_eval and not p.is_inference
    self._batch = MiniBatch(
      p,
      layer.path,
      {INPUTS: args, TARGETS: targets, SIDE_INPUTS: dict(side_inputs or {})},
      self._devices[0],
      training=self._training,
    )
    seeds.check_capacity(len(layer.layer_numbers), self._batch.count)
    self._loss = None
    if with_loss:
      self._loss = PipelineLoss(self._devices[-1])
    self._wants_aux = with_loss or py_utils.AuxLossContext.Current() is not None
    self._cells = self._make_cells(theta)
    self._inputs, self._input_dims = self._batch.inputs_and_dims()
    self._input_gradients = input_gradients.may_be_needed(
      [t for t in self._inputs if tensor_specs.differentiable(t)],
      layer.trained_variables.by_name,
    )
    self._side_inputs = SideInputs(layer, self._batch, with_loss=with_loss)
    if self._training:
      self._side_inputs.find_trained()
    self.schedule = self._make_schedule()
    self._traces = self._find_traces()
    self._make_engine()
    self.emitted = EmittedSchedule(
      self.schedule,
      tuple(self._devices),
      self._engine.task_of_op,
      self._engine.recompute_of_op,
    )
    self._emit_first()

  # -- Preparing.

  def _make_schedule(self) -> Schedule:
    inside = self._loss is not None
    return make_schedule(
      self._layer.params.schedule if inside else 'gpipe',
      placement.device_indices(self._devices),
      self._batch.count,
      forward_only=not self._training,
      first_backward=0
      if self._input_gradients
      else frozen_cells.first_trained(
        self._layer, self._cells, self._side_inputs.taken_as_values
      ),
    )

  def _find_traces(self) -> eager_traces.EagerTraces:
    return eager_traces.of_kind(
      self._layer.eager_traces,
      self._cells,
      self._training,
      self._loss is not None,
      self._wants_aux,
      self._input_gradients,
      self.schedule.first_backward,
      *(
        tuple(self._side_inputs.taken_as_values(k))
        for k in range(len(self._cells))
      ),
    )

  def _make_cells(self, theta) -> list[LingvoCell]:
    layer = self._layer
    is_trained = layer.trained_variables
    flags = trained_variables.flags(theta, layer.vars, is_trained)
    flags = tied_weights.tie(layer, flags)
    theta = tied_weights.tie(layer, theta, layer.device_of)
    learners = list(trained_variables.learner_filters(layer))
    # What one learner updates must not reach another's backward pass.
    by_rows = self._training and len(learners) < 2
    cells = []
    for k, cell in enumerate(layer.cells):
      layers, cell_theta = [cell], [theta[cell.params.name]]
      cell_flags = [flags[cell.params.name]]
      device = self._devices[k]
      if self._loss is not None and k == len(layer.cells) - 1:
        layers.append(layer.loss)
        cell_theta.append(theta.loss)
        cell_flags.append(flags.loss)
      cell_theta = tf.nest.map_structure(
        lambda w, device=device: placement.before_copies(w, device), cell_theta
      )
      cells.append(
        LingvoCell(
          cell.params.name,
          layers,
          cell_theta,
          CellFProp(layer, k, self._loss),
          layer.layer_numbers,
          collect_aux_losses=self._wants_aux,
          trained=tf.nest.flatten(cell_flags),
          is_trained=is_trained,
          by_rows_at=device if by_rows else None,
        )
      )
    return cells

  def _make_engine(self) -> None:
    args, dims = self._batch.given[INPUTS], self._batch.dims[INPUTS]
    self._split_inputs = self._batch.split(args, dims, self._devices[0])
    self._split_values = self._side_inputs.split_values()
    side_inputs = self._side_inputs.split()
    self._engine_cells = [
      engine.Cell(
        cell.name,
        self._devices[k],
        cell.body,
        cell.weights,
        cell.carry,
        side_inputs[k],
        puts=self._layer.cell_wiring[k].puts,
        takes=[
          *self._layer.cell_wiring[k].takes,
          *self._side_inputs.taken_as_values(k),
        ],
        trained=cell.trained,
      )
      for k, cell in enumerate(self._cells)
    ]
    cells = self._engine_cells
    traced = self._traces.functions
    self._dims = OutputDims(
      self._layer.path, self._batch, cells, self._side_inputs, traced
    )
    num_known = len(traced)
    try:
      self._engine = self._engine_of(cells, traced)
    except Exception as error:
      self._dims.explain(error)
      raise
    self._dims.compare(
      *([self._engine.traced(k, m) for k in range(len(cells))] for m in (0, -1))
    )
    self._loss = self._traces.hand_on(self._cells, self._loss)
    eager_traces.forget_what_captures(self._layer.eager_traces, self._traces)
    if self._training and len(traced) > num_known:
      self._check_random_ops()
      for k in range(self._num_frozen):
        captures = self._engine.traced(k).captures
        frozen_cells.check_captures(self._layer, k, captures)

  def _engine_of(
    self,
    cells: Sequence[engine.Cell],
    functions: dict[Any, list[cell_function.CellFunction]] | None = None,
  ) -> engine.Engine:
    return engine.Engine(
      cells,
      self.schedule,
      self._split_inputs,
      self._batch.clock,
      recompute=self._layer.params.recompute,
      input_gradients=self._input_gradients,
      weighted=self._loss is not None,
      given=self._split_values,
      functions=functions,
    )

  def _check_random_ops(self) -> None:
    """Refuses seeds that are all the same; says what is not recomputed."""
    if self._batch.count > 1:
      for k, cell in enumerate(self._cells):
        random_checks.check_seeds(cell, self._engine.traced(k).graph)
    if self._layer.params.recompute == 'never':
      return
    for what in self._unrepeatable(first=self._num_frozen):
      tf.logging.warning(
        '%s: %s. What it returned is kept in memory for the backward pass.',
        self._layer.path,
        what,
      )

  def _unrepeatable(self, first: int = 0, end: int | None = None) -> list[str]:
    """What recomputation cannot repeat in cells `first` to `end`, in words."""
    found: dict[str, str] = {}
    for k, cell in list(enumerate(self._cells))[first:end]:
      found |= random_checks.unrepeatable(cell, self._engine.traced(k).graph)
    return list(found.values())

  def _check_extra_tasks(self) -> None:
    """Called if gradients of data are wanted: extra tasks recompute then."""
    if self._input_gradients:
      return
    found = self._unrepeatable(end=1)
    if found:
      raise ValueError(
        f'{self._layer.path}: gradients of the inputs are asked for, though '
        'they depend on no weight. Extra tasks compute these, by running the '
        f'first cell again whatever recompute says; but '
        f'{"; ".join(found)}.'
      )

  @property
  def _num_frozen(self) -> int:
    """How many cells run forward only, in training too."""
    schedule = self.schedule
    if schedule.forward_only:
      return schedule.num_cells
    return schedule.first_backward

  # -- Running.

  def _emit_first(self) -> None:
    """Emits all tasks, or those that do not need the outputs' gradients."""
    tasks = self.schedule.in_order()
    if self._loss is not None:
      self._loss_pass = self._pass_of(self._loss, self._engine, self._cells[-1])
      self._loss_pass.run(tasks)
    else:
      self._engine.run([t for t in tasks if t.kind == TaskKind.FORWARD])
    self._statistics: list[tf.Tensor] = []
    for k, cell in enumerate(self._cells):
      self._statistics += cell_effects.apply(
        cell,
        self._results(k),
        self._batch.shares,
        self._devices[k],
        self._dims.of_fetched(k, cell),
      )

  def _results(self, k: int) -> list[cell_function.CellOutputs]:
    """What cell `k` returned for each micro-batch."""
    return [self._engine.results(k, m) for m in range(self._batch.count)]

  # -- Results.

  def outputs(self) -> Any:
    """The last cell's outputs, of the mini-batch; the loss is outside."""
    results = [result.outputs for result in self._results(len(self._cells) - 1)]
    dims = self._dims.of_outputs()
    with placement.on_device(self._devices[-1]):
      outputs = micro_batches.merge(results, dims)
    flat = tf.nest.flatten(outputs)
    where = [
      i
      for i, t in enumerate(flat)
      if t is not None and tensor_specs.differentiable(t)
    ]
    aux = self._aux_losses()
    tensors = self._after_statistics([flat[i] for i in where]) + aux
    if self._training and tensors:
      parts = [[tf.nest.flatten(nest)[i] for i in where] for nest in results]
      tensors = self._gradients().from_outside(
        tensors, parts, [dims[i] for i in where], self._batch.shares
      )
    for i, tensor in zip(where, tensors[: len(where)], strict=True):
      flat[i] = tensor
    for loss in tensors[len(where) :]:
      py_utils.AuxLossContext.Current().AddLoss(loss)
    return tf.nest.pack_sequence_as(outputs, flat)

  def metrics(self) -> py_utils.NestedMap:
    """The metrics of the mini-batch; the loss is inside."""
    own = [self._loss_pass.values(m) for m in range(self._batch.count)]
    aux = [
      [
        loss
        for k in range(len(self._cells))
        for loss in self._engine.results(k, m).losses
      ]
      for m in range(self._batch.count)
    ]
    metrics, weight = self._loss.combine(own, aux)
    # Lingvo averages over splits with the weights: no gradient there.
    with placement.on_device(self._devices[-1]):
      metrics = tf.nest.map_structure(tf.stop_gradient, metrics)
      weight = tf.stop_gradient(weight)
    [loss] = self._after_statistics([metrics.loss[0]])
    if self._training:
      for name in sorted({*self._loss.differentiable, AUX} & metrics.keys()):
        metrics[name] = self._with_pass_of_its_own(name, metrics[name])
      loss = self._gradients().from_inside(
        loss, weight, lambda: self._loss_pass
      )
    metrics.loss = (loss, weight)
    return metrics

  @property
  def constant_loss_weight(self) -> float | None:
    """See `PipeliningLayer.constant_loss_weight`."""
    return self._loss.constant_weight(self._batch.sizes)

  def _with_pass_of_its_own(
    self, name: str, metric: tuple[tf.Tensor, tf.Tensor]
  ) -> tuple[tf.Tensor, tf.Tensor]:
    """A metric other than the loss that has a gradient."""
    run = functools.cache(lambda: self._run_again(name))
    value, weight = metric
    return self._gradients().from_inside(value, weight, run), weight

  def _run_again(self, metric: str) -> LossPass:
    """Runs the pipeline once more, for the gradients of a metric.

    The backward tasks that are there are for the loss alone, and start before
    anybody can say which other metrics are to have gradients.
    """
    path = self._layer.path
    found = self._unrepeatable()
    if found:
      raise ValueError(
        f'{path}: gradients of metric {metric!r} are asked for. The pipeline '
        'runs once more for them, whatever recompute says; but '
        f'{"; ".join(found)}.'
      )
    tf.logging.info(
      '%s: gradients of metric %r are asked for; the pipeline runs once more '
      'for them.',
      path,
      metric,
    )
    loss = PipelineLoss(self._devices[-1], metric)
    fprop = CellFProp(self._layer, len(self._cells) - 1, loss)
    last = self._cells[-1].with_fprop(fprop)
    cells = loss_pass.cells_of(loss, self._engine_cells, last)
    again = self._pass_of(loss, self._engine_of(cells), last)
    again.run(self.schedule.in_order())
    return again

  def _pass_of(
    self, loss: PipelineLoss, the_engine: engine.Engine, last_cell: LingvoCell
  ) -> LossPass:
    return LossPass(loss, the_engine, last_cell, self._batch, self._devices)

  def _gradients(self) -> PipelineGradients:
    refused = frozen_cells.refused(
      self._layer,
      self._cells,
      self._engine.frozen_weights,
      self._inputs if self._num_frozen else [],
    )
    return PipelineGradients(
      self._engine,
      self.schedule,
      self._devices,
      [] if self._num_frozen else self._inputs,
      [] if self._num_frozen else self._input_dims,
      self._check_extra_tasks,
      self._side_inputs.given(),
      refused + self._side_inputs.refused(),
    )

  def _after_statistics(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Makes outputs depend on the moving averages' statistics."""
    if not self._statistics:
      return tensors
    with (
      placement.on_device(self._devices[-1]),
      tf.control_dependencies(self._statistics),
    ):
      return [tf.identity(t) for t in tensors]

  def _aux_losses(self) -> list[tf.Tensor]:
    """The auxiliary losses of the mini-batch, in the order of the layers."""
    losses: list[tf.Tensor] = []
    for k, device in enumerate(self._devices):
      rows = [result.losses for result in self._results(k)]
      if not rows[0]:
        continue
      with placement.on_device(device):
        weighted = [
          [tf.cast(share, loss.dtype) * loss for loss in row]
          for share, row in zip(self._batch.shares(), rows, strict=True)
        ]
        losses += moving_averages.sum_in_order('aux_losses', weighted)
    return losses
