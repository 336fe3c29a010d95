# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One mini-batch through a PipeliningLayer: from theta and inputs to outputs.

It joins the layer's cells to the engine, before and after:

```
  inputs --split--> engine --merge--> outputs, with a gradient function
  targets -'          |
                      '--> accumulators, moving averages, summaries, ...
```
"""

import functools
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
from lingvo_gpipe.feature_extraction_layer import describe, to_tuple
from lingvo_gpipe.pipeline import (
  cell_effects,
  input_gradients,
  moving_averages,
  random_checks,
  seeds,
)
from lingvo_gpipe.pipeline.gradients import PipelineGradients
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell
from lingvo_gpipe.pipeline.loss import PipelineLoss
from lingvo_gpipe.schedules import TaskKind, make_schedule


class PipelineRun:
  """Runs a mini-batch; `outputs` or `metrics` then gives the result."""

  def __init__(
    self,
    layer,
    theta,
    args: tuple[Any, ...],
    targets: Any = None,
    *,
    with_loss: bool,
  ):
    """Traces the cells and emits what can run before gradients are known.

    Args:
      layer: The PipeliningLayer.
      theta: Its weights.
      args: The first cell's arguments, of the mini-batch.
      targets: The loss's targets; None if it needs none.
      with_loss: Whether the loss is in the pipeline.
    """
    p = layer.params
    self._layer = layer
    self._devices = layer.cell_devices
    self._batch_dim = p.batch_dim
    self._training = not layer.do_eval and not p.is_inference
    self._sizes, batch = self._choose_sizes((args, targets))
    seeds.check_capacity(len(layer.layer_numbers), self._sizes.count)
    self.schedule = make_schedule(
      p.schedule if with_loss else 'gpipe',
      placement.device_indices(self._devices),
      self._sizes.count,
      forward_only=not self._training,
    )
    self._clock = self._make_clock(batch)
    self._loss = None
    if with_loss:
      self._loss = PipelineLoss(self._devices[-1], self._clock.step)
    self._cells = self._make_cells(theta)
    self._make_engine(args, targets)
    self._emit_first()

  # -- Preparing.

  def _choose_sizes(
    self, nests: Any
  ) -> tuple[micro_batches.MicroBatchSizes, tf.Tensor]:
    """The micro-batches' sizes, and the mini-batch's, an int64 scalar."""
    p = self._layer.params
    known, tensor = micro_batches.batch_size(nests, p.batch_dim)
    by_size = p.micro_batch_size is not None and p.num_micro_batches == 1
    count = None if by_size else p.num_micro_batches
    try:
      sizes = micro_batches.choose_sizes(known, count, p.micro_batch_size)
    except ValueError as error:
      raise ValueError(f'{self._layer.path}: {error}') from error
    if count is not None and sizes.count < count:
      tf.logging.warning(
        '%s: num_micro_batches is %d, but the mini-batch has %d examples; it '
        'is cut into %d micro-batches of one example each.',
        self._layer.path,
        count,
        known,
        sizes.count,
      )
    with placement.on_device(self._devices[0]):
      if known is not None:
        return sizes, tf.constant(known, tf.int64)
      return sizes, tf.shape(tensor, out_type=tf.int64)[p.batch_dim]

  def _make_clock(self, batch: tf.Tensor) -> engine.Clock:
    step = py_utils.GetGlobalStep()
    if step is None:
      step = py_utils.GetOrCreateGlobalStepVar()
    with placement.on_device(self._devices[0]):
      sizes = self._sizes.sizes
      if not self._sizes.known:
        self._run_time_sizes = micro_batches.sizes_at_run_time(
          self._sizes.count, batch, may_be_empty=not self._training
        )
        sizes = tf.unstack(self._run_time_sizes, num=self._sizes.count)
      return engine.Clock(
        step=tf.cast(tf.convert_to_tensor(step), tf.int64),
        seed=tf.cast(py_utils.GetIncStepSeed(), tf.int64),
        sizes=sizes,
        batch=batch,
      )

  def _split(self, nest: Any, device: str) -> list[Any]:
    with placement.on_device(device):
      return micro_batches.split(
        nest,
        self._batch_dim,
        self._sizes,
        None if self._sizes.known else self._run_time_sizes,
      )

  def _make_cells(self, theta) -> list[LingvoCell]:
    layer = self._layer
    wants_aux = (
      self._loss is not None or py_utils.AuxLossContext.Current() is not None
    )
    cells = []
    for k, cell in enumerate(layer.cells):
      layers, cell_theta = [cell], [theta[cell.params.name]]
      device = self._devices[k]
      if self._loss is not None and k == len(layer.cells) - 1:
        layers.append(layer.loss)
        cell_theta.append(theta.loss)
      cell_theta = tf.nest.map_structure(
        lambda w, device=device: placement.before_copies(w, device), cell_theta
      )
      cells.append(
        LingvoCell(
          cell.params.name,
          layers,
          cell_theta,
          functools.partial(self._cell_fprop, k),
          layer.layer_numbers,
          collect_aux_losses=wants_aux,
        )
      )
    return cells

  def _cell_fprop(self, k: int, theta, inputs, targets):
    """What cell `k` computes; called while it is traced."""
    cell = self._layer.cells[k]
    try:
      with seeds.in_layer(cell.path):
        outputs = cell.FProp(theta[0], *to_tuple(inputs))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
      self._explain(k, inputs, error)
      raise
    if len(theta) == 1:
      return outputs, []
    loss = self._layer.loss
    with seeds.in_layer(loss.path):
      metrics = loss.FProp(theta[1], outputs, targets)
    return self._loss.in_cell(loss, metrics)

  def _explain(self, k: int, inputs: Any, error: Exception) -> None:
    """Raises an error that says which cells may not fit together."""
    names = [cell.params.name for cell in self._layer.cells]
    source = f'cell {names[k - 1]!r} returns' if k else 'the pipeline was given'
    raise ValueError(
      f'{self._layer.path}: cell {names[k]!r} cannot run on what {source}, '
      f'{describe(inputs)}: {error}'
    ) from error

  def _make_engine(self, args: tuple[Any, ...], targets: Any) -> None:
    inputs = self._split(args, self._devices[0])
    last = len(self._cells) - 1
    cells = []
    for k, cell in enumerate(self._cells):
      side_inputs = None
      if k == last and targets is not None:
        side_inputs = self._split(targets, self._devices[-1])
      cells.append(
        engine.Cell(
          cell.name,
          self._devices[k],
          cell.body,
          cell.weights,
          cell.carry,
          side_inputs,
        )
      )
    self._inputs = [t for t in tf.nest.flatten(args) if t is not None]
    p = self._layer.params
    self._input_gradients = input_gradients.may_be_needed(
      [t for t in self._inputs if tensor_specs.differentiable(t)]
    )
    self._engine = engine.Engine(
      cells,
      self.schedule,
      inputs,
      self._clock,
      recompute=p.recompute,
      input_gradients=self._input_gradients,
    )
    if self._training:
      for k in range(len(self._cells)):
        self._check_random_ops(k, recompute=p.recompute != 'never')

  def _check_random_ops(self, k: int, *, recompute: bool) -> None:
    random_checks.check(
      self._cells[k],
      self._engine.traced(k).graph,
      recompute=recompute,
      num_micro_batches=self._sizes.count,
    )

  def _check_extra_tasks(self) -> None:
    """Called if gradients of data are wanted: extra tasks recompute then."""
    if self._input_gradients:
      return
    try:
      self._check_random_ops(0, recompute=True)
    except ValueError as error:
      raise ValueError(
        f'{self._layer.path}: gradients of the inputs are asked for, though '
        'they depend on no weight. Extra tasks compute these, by running the '
        f'first cell again whatever recompute says. {error}'
      ) from error

  # -- Running.

  def _emit_first(self) -> None:
    """Emits all tasks, or those that do not need the outputs' gradients."""
    tasks = self.schedule.in_order()
    if self._loss is not None:
      self._engine.output_gradients = self._loss.output_gradients
      self._engine.loss_gradients = self._loss_weight
    else:
      tasks = [task for task in tasks if task.kind == TaskKind.FORWARD]
    self._engine.run(tasks)
    self._statistics: list[tf.Tensor] = []
    for k, cell in enumerate(self._cells):
      self._statistics += cell_effects.apply(
        cell, self._results(k), self._shares, self._devices[k], self._batch_dim
      )

  def _results(self, k: int) -> list[cell_function.CellOutputs]:
    """What cell `k` returned for each micro-batch."""
    return [self._engine.results(k, m) for m in range(self._sizes.count)]

  def _loss_weight(self, k: int, m: int) -> list[tf.Tensor]:
    """The gradients of cell `k`'s auxiliary losses, if the loss is inside."""
    values = self._engine.results(len(self._cells) - 1, m).values
    weight = self._loss.loss_weight(self._cells[-1].split_values(values).own)
    with placement.on_device(self._devices[k]):
      return [
        tf.cast(weight, loss.dtype)
        for loss in self._engine.results(k, m).losses
      ]

  def _shares(self) -> list[tf.Tensor]:
    with placement.on_device(self._devices[0]):
      return [self._clock.share(m) for m in range(self._sizes.count)]

  # -- Results.

  def outputs(self) -> Any:
    """The last cell's outputs, of the mini-batch; the loss is outside."""
    with placement.on_device(self._devices[-1]):
      try:
        outputs = micro_batches.merge(
          [result.outputs for result in self._results(len(self._cells) - 1)],
          self._batch_dim,
        )
      except ValueError as error:
        raise ValueError(f'{self._layer.path}: {error}') from error
    flat = tf.nest.flatten(outputs)
    where = [
      i
      for i, t in enumerate(flat)
      if t is not None and tensor_specs.differentiable(t)
    ]
    aux = self._aux_losses()
    tensors = self._after_statistics([flat[i] for i in where]) + aux
    if self._training and tensors:
      tensors = self._gradients().from_outside(tensors, len(aux), self._shares)
    for i, tensor in zip(where, tensors[: len(where)], strict=True):
      flat[i] = tensor
    for loss in tensors[len(where) :]:
      py_utils.AuxLossContext.Current().AddLoss(loss)
    return tf.nest.pack_sequence_as(outputs, flat)

  def metrics(self) -> py_utils.NestedMap:
    """The metrics of the mini-batch; the loss is inside."""
    own = [
      self._cells[-1].split_values(result.values).own
      for result in self._results(len(self._cells) - 1)
    ]
    aux = [
      [
        loss
        for k in range(len(self._cells))
        for loss in self._engine.results(k, m).losses
      ]
      for m in range(self._sizes.count)
    ]
    metrics, weight = self._loss.combine(own, aux)
    # Lingvo averages over splits with the weights: no gradient there.
    with placement.on_device(self._devices[-1]):
      metrics = tf.nest.map_structure(tf.stop_gradient, metrics)
      weight = tf.stop_gradient(weight)
    [loss] = self._after_statistics([metrics.loss[0]])
    if self._training:
      loss = self._gradients().from_inside(loss, weight)
    metrics.loss = (loss, weight)
    return metrics

  def _gradients(self) -> PipelineGradients:
    return PipelineGradients(
      self._engine,
      self.schedule,
      self._devices,
      self._inputs,
      self._split,
      self._batch_dim,
      self._check_extra_tasks,
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
          for share, row in zip(self._shares(), rows, strict=True)
        ]
        losses += moving_averages.sum_in_order('aux_losses', weighted)
    return losses
