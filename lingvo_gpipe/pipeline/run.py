# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One mini-batch through a PipeliningLayer: from theta and inputs to outputs.

```
  inputs ---split--> engine --merge--> outputs, with a gradient function
  targets      -'      |
  side inputs -'       '--> accumulators, moving averages, summaries, ...
```

Each step hands on a value: `plan.make_plan` a Plan, `plan.trace` the traced
cells, and `start` a PipelineRun, which has the results.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.engine import micro_batches
from lingvo_gpipe.engine.backward_tasks import Gradients, run_tasks
from lingvo_gpipe.engine.cell_function import CellInputs, CellOutputs
from lingvo_gpipe.engine.engine import Engine
from lingvo_gpipe.engine.tensors import differentiable, on_device
from lingvo_gpipe.pipeline import (
  gradients,
  loss,
  moving_averages,
  summaries,
  trained_variables,
)
from lingvo_gpipe.pipeline import plan as planning
from lingvo_gpipe.pipeline.mini_batch import TARGETS_VALUE
from lingvo_gpipe.schedules import Schedule, TaskKind
from lingvo_gpipe.schedules.emitted import EmittedSchedule


def start(
  layer: Any,
  theta: Any,
  args: tuple[Any, ...],
  targets: Any = None,
  side_inputs: Mapping[str, Any] | None = None,
  *,
  with_loss: bool,
) -> 'PipelineRun':
  """Emits what can run before gradients are known; see `plan.make_plan`."""
  plan = planning.make_plan(
    layer, theta, args, targets, side_inputs or {}, with_loss=with_loss
  )
  traced = planning.trace(plan)
  engine = Engine(traced, plan.batch.clock, plan.recomputed)
  backward = None
  if with_loss:
    backward = _run_with_loss(plan, engine)
  else:
    run_tasks(engine, [t for t in plan.tasks if t.kind == TaskKind.FORWARD])
  statistics: list[tf.Tensor] = []
  for k in range(len(plan.cells)):
    statistics += _apply_effects(plan, engine, k)
  return PipelineRun(plan, engine, backward, statistics)


def _run_with_loss(
  plan: planning.Plan, engine: Engine
) -> Callable[[], gradients.BackwardPass]:
  """Emits all tasks; returns what gives the backward pass, if there is one."""
  traced_loss = engine.traced.function(len(plan.cells) - 1).notes.own
  begin = loss.LossStart(traced_loss, engine, plan.batch.clock.sizes[0])
  done = run_tasks(engine, plan.tasks, begin.gradients())
  return lambda: gradients.BackwardPass(done, begin.scale)


def _apply_effects(
  plan: planning.Plan, engine: Engine, k: int
) -> list[tf.Tensor]:
  """Sets accumulators and fetched activations, adds updates and summaries.

  Returns:
    The statistics that updates of moving averages use: the pipeline's outputs
    must depend on them.
  """
  traced, device = engine.traced, plan.cells[k].device
  notes = traced.function(k).notes
  results = [engine.results(k, m) for m in range(plan.batch.count)]
  plan.lingvo_cells[k].set_carry(results[-1].carry)
  values = [notes.split(result.values) for result in results]
  if notes.summaries:
    summaries.emit(
      notes.summaries,
      [v.summaries for v in values],
      plan.batch.shares(),
      device,
    )
  if notes.fetched:
    dims = plan.output_dims(traced).of_fetched(k)
    for i, (fetch, count) in enumerate(notes.fetched):
      with on_device(device):
        fetch._activations = micro_batches.merge(
          [v.fetched[i] for v in values], dims[i]
        )
      # The gradients that a fetch layer keeps are those of one micro-batch.
      fetch._gradients = [None] * count
  if not notes.updates:
    return []
  return moving_averages.update(
    notes.updates, [v.moving_averages for v in values], device
  )


@dataclasses.dataclass(frozen=True)
class PipelineRun:
  """A mini-batch whose forward tasks are in the graph.

  Attributes:
    plan: What is run.
    engine: What runs it.
    backward: Gives the backward pass, where the loss is inside.
    statistics: What outputs must depend on; see `_apply_effects`.
  """

  plan: planning.Plan
  engine: Engine
  backward: Callable[[], gradients.BackwardPass] | None
  statistics: Sequence[tf.Tensor]

  @property
  def schedule(self) -> Schedule:
    """The schedule that it follows."""
    return self.plan.schedule

  @property
  def emitted(self) -> EmittedSchedule:
    """The ops of its tasks."""
    return self.engine.emitted

  @property
  def constant_loss_weight(self) -> float | None:
    """See `PipeliningLayer.constant_loss_weight`."""
    return loss.constant_weight(
      [self._last_cell(m).notes.own for m in range(self.plan.batch.count)],
      self.plan.batch.sizes,
    )

  def _last_cell(self, m: int) -> Any:
    return self.engine.traced.function(len(self.plan.cells) - 1, m)

  def _results(self, k: int) -> list[CellOutputs]:
    """What cell `k` returned for each micro-batch."""
    return [self.engine.results(k, m) for m in range(self.plan.batch.count)]

  # -- The loss outside.

  def outputs(self) -> Any:
    """The last cell's outputs, of the mini-batch; the loss is outside."""
    device = self.plan.devices[-1]
    results = [r.outputs for r in self._results(len(self.plan.cells) - 1)]
    dims = self.plan.output_dims(self.engine.traced).of_outputs()
    with on_device(device):
      outputs = micro_batches.merge(results, dims)
    flat = tf.nest.flatten(outputs)
    where = [
      i for i, t in enumerate(flat) if t is not None and differentiable(t)
    ]
    tensors = self._after_statistics([flat[i] for i in where])
    tensors += self._aux_losses()
    if self.plan.training and tensors:
      parts = [[tf.nest.flatten(nest)[i] for i in where] for nest in results]
      tensors = gradients.with_loss_outside(
        self.engine,
        self._sources(),
        tensors,
        parts,
        [dims[i] for i in where],
        self.plan.batch.shares,
      )
    for i, tensor in zip(where, tensors[: len(where)], strict=True):
      flat[i] = tensor
    for aux_loss in tensors[len(where) :]:
      py_utils.AuxLossContext.Current().AddLoss(aux_loss)
    return tf.nest.pack_sequence_as(outputs, flat)

  def _aux_losses(self) -> list[tf.Tensor]:
    """The auxiliary losses of the mini-batch, in the order of the layers."""
    losses: list[tf.Tensor] = []
    for k, device in enumerate(self.plan.devices):
      rows = [result.losses for result in self._results(k)]
      if not rows[0]:
        continue
      with on_device(device):
        weighted = [
          [tf.cast(share, loss.dtype) * loss for loss in row]
          for share, row in zip(self.plan.batch.shares(), rows, strict=True)
        ]
        losses += moving_averages.sum_in_order('aux_losses', weighted)
    return losses

  # -- The loss inside.

  def metrics(self) -> py_utils.NestedMap:
    """The metrics of the mini-batch; the loss is inside."""
    plan, device = self.plan, self.plan.devices[-1]
    numbers = range(plan.batch.count)
    aux = [
      [
        loss
        for k in range(len(plan.cells))
        for loss in self.engine.results(k, m).losses
      ]
      for m in numbers
    ]
    traced_loss = self._last_cell(0).notes.own
    with on_device(device):
      metrics = loss.combine(
        traced_loss,
        [loss.values_of(self.engine, m) for m in numbers],
        aux,
        plan.traces.combined,
      )
      # Lingvo averages over splits with the weights: no gradient there.
      metrics = tf.nest.map_structure(tf.stop_gradient, metrics)
    value, weight = metrics.loss
    [value] = self._after_statistics([value])
    if plan.training:
      assert self.backward is not None
      with_gradient = functools.partial(
        gradients.with_loss_inside, self._sources(), device
      )
      for name in sorted({*traced_loss.differentiable, loss.AUX}):
        if name in metrics:
          again = functools.cache(functools.partial(self._run_again, name))
          other, its_weight = metrics[name]
          metrics[name] = (
            with_gradient(other, its_weight, run=again),
            its_weight,
          )
      value = with_gradient(value, weight, run=self.backward)
    metrics.loss = (value, weight)
    return metrics

  def _run_again(self, metric: str) -> gradients.BackwardPass:
    """Runs the pipeline once more, for the gradients of a metric.

    The backward tasks that are there are for the loss alone, and start before
    anybody can say which other metrics are to have gradients.
    """
    plan = self.plan
    reasons = planning.unrepeatable(plan, self.engine.traced)
    if reasons:
      raise ValueError(
        f'{plan.layer.path}: gradients of metric {metric!r} are asked for. The '
        'pipeline runs once more for them, whatever recompute says; but '
        f'{"; ".join(reasons)}.'
      )
    tf.logging.info(
      '%s: gradients of metric %r are asked for; the pipeline runs once more '
      'for them.',
      plan.layer.path,
      metric,
    )
    last = plan.lingvo_cells[-1].computing(
      functools.partial(
        planning.compute, plan.layer, len(plan.cells) - 1, metric
      )
    )
    cells = [
      *plan.cells[:-1],
      dataclasses.replace(plan.cells[-1], body=last.body),
    ]
    if metric != loss.AUX:
      cells = [
        dataclasses.replace(cell, body=_without_losses(cell.body))
        for cell in cells
      ]
    again = Engine(plan.trace(cells), plan.batch.clock, plan.recomputed)
    return _run_with_loss(plan, again)()

  # -- Both.

  def _sources(self) -> list[gradients.Source]:
    """What has a gradient, or is refused one."""
    plan = self.plan
    frozen = plan.num_frozen > 0
    sources = []
    if not frozen:
      sources = [
        gradients.of_leaves(
          plan.devices[0],
          plan.inputs,
          plan.batch.count,
          self._input_gradients,
        )
      ]
    sides = plan.side_inputs
    for name in sides.given:
      sources.append(
        gradients.of_leaves(
          sides.first_device(name),
          sides.leaves(name),
          plan.batch.count,
          functools.partial(_of_side_input, name),
        )
      )
    sources += [
      gradients.of_weights(self.engine, k) for k in range(len(plan.cells))
    ]
    if plan.layer.trained_variables.filters:
      sources += trained_variables.refused(
        plan.layer,
        [cell.layers for cell in plan.lingvo_cells],
        [self.engine.frozen_weights(k) for k in range(len(plan.cells))],
        [leaf.tensor for leaf in plan.inputs] if frozen else [],
      )
    for name, tensors in sides.data.items():
      what = f'side input {name!r}'
      if name == TARGETS_VALUE:
        what = 'the targets'
      message = (
        f'{plan.layer.path}: a gradient of {what} is asked for. Nothing that '
        'is trained needs it, so the pipeline does not compute it. Make it an '
        'input: the gradient of an input is always available.'
      )
      device = sides.first_device(name)
      sources.append(gradients.refusing(device, tensors, message))
    return sources

  def _input_gradients(
    self, done: Gradients, m: int
  ) -> Sequence[tf.Tensor | None]:
    """Extra tasks compute gradients of data; they recompute the first cell."""
    if m == 0 and not self.plan.input_gradients:
      reasons = planning.unrepeatable(self.plan, self.engine.traced, end=1)
      if reasons:
        raise ValueError(
          f'{self.plan.layer.path}: gradients of the inputs are asked for, '
          'though they depend on no weight. Extra tasks compute these, by '
          'running the first cell again whatever recompute says; but '
          f'{"; ".join(reasons)}.'
        )
    return done.of_inputs(m)

  def _after_statistics(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Makes outputs depend on the moving averages' statistics."""
    if not self.statistics:
      return tensors
    with (
      on_device(self.plan.devices[-1]),
      tf.control_dependencies(self.statistics),
    ):
      return [tf.identity(t) for t in tensors]


def _of_side_input(name: str, done: Gradients, m: int) -> list[Any]:
  return done.of_given(name, m)


def _without_losses(
  body: Callable[[CellInputs], CellOutputs],
) -> Callable[[CellInputs], CellOutputs]:
  """A cell's body that adds no auxiliary losses."""
  return lambda given: dataclasses.replace(body(given), losses=[])
