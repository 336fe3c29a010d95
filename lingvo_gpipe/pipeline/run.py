# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One mini-batch through a PipeliningLayer: from theta and inputs to outputs.

```
  inputs ---split--> engine --merge--> outputs, with a gradient function
  targets      -'      |
  side inputs -'       '--> accumulators, moving averages, summaries, ...
```
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.engine import graph_walks, micro_batches
from lingvo_gpipe.engine.cell_function import CellInputs, CellOutputs
from lingvo_gpipe.engine.engine import Engine, Gradients, run_tasks
from lingvo_gpipe.engine.tensors import differentiable, on_device
from lingvo_gpipe.engine.traced_cells import TracedCells
from lingvo_gpipe.pipeline import (
  gradients,
  lingvo_cell,
  loss,
  summaries,
  trained_variables,
  variable_stand_in,
)
from lingvo_gpipe.pipeline.mini_batch import TARGETS_VALUE
from lingvo_gpipe.pipeline.output_dims import OutputDims
from lingvo_gpipe.pipeline.plan import Plan, compute, make_plan
from lingvo_gpipe.schedules import TaskKind


def start(*args: Any, with_loss: bool) -> 'PipelineRun':
  """Emits what can run before gradients are known; see `make_plan`."""
  plan = make_plan(*args, with_loss=with_loss)
  engine = Engine(_trace(plan), plan.batch.clock, plan.order.recomputed)
  backward = None
  if with_loss:
    backward = _run_with_loss(plan, engine)
  else:
    tasks = plan.order.tasks
    run_tasks(engine, [t for t in tasks if t.kind == TaskKind.FORWARD])
  statistics: list[tf.Tensor] = []
  for k in range(len(plan.cells)):
    statistics += _apply_effects(plan, engine, k)
  return PipelineRun(plan, engine, backward, statistics)


def _trace(plan: Plan) -> TracedCells:
  functions, layer = plan.traces.functions, plan.layer
  num_known = len(functions)
  inputs = plan.batch.split(plan.batch.inputs, plan.devices[0])
  given = plan.side_inputs.split_values()
  try:
    traced = TracedCells(
      plan.cells,
      plan.order.schedule,
      inputs,
      given,
      input_gradients=plan.input_gradients,
      weighted=plan.with_loss,
      known=functions,
    )
  except Exception as error:
    OutputDims(plan, None).explain(error)
    raise
  if plan.batch.count > 1 and plan.batch.sizes[0] == 1:
    OutputDims(plan, traced).second_trace()
  if any(f.captures for row in functions.values() for f in row):
    # They hold a value of this call.
    known = layer.eager_traces.items()
    layer.eager_traces = {k: t for k, t in known if t is not plan.traces}
  if plan.training and len(functions) > num_known:
    _check_cells(plan, traced)
  return traced


def _check_cells(plan: Plan, traced: TracedCells) -> None:
  for k, cell in enumerate(plan.lingvo_cells):
    function = traced.function(k)
    op = graph_walks.unseeded(function.graph, function.notes.seed_ops)
    if op is not None and plan.batch.count > 1:
      lingvo_cell.refuse_unseeded(cell, function, op)
    if k < plan.num_frozen:
      trained_variables.check_captures(plan.layer, k, function.captures)
  if plan.layer.recompute_policy == 'never':
    return
  for what in _unrepeatable(plan, traced, slice(plan.num_frozen, None)):
    tf.logging.warning(
      '%s: %s. What it returned is kept in memory for the backward pass.',
      plan.layer.path,
      what,
    )


def _unrepeatable(
  plan: Plan, traced: TracedCells, cells: slice = slice(None)
) -> list[str]:
  found = []
  for k, cell in list(enumerate(plan.lingvo_cells))[cells]:
    function = traced.function(k)
    culprits = graph_walks.unrepeatable(function.graph)
    if culprits:
      found += lingvo_cell.explain(cell, function, culprits)
  return found


def _run_with_loss(
  plan: Plan, engine: Engine
) -> Callable[[], gradients.BackwardPass]:
  traced_loss = engine.traced.function(len(plan.cells) - 1).notes.own
  begin, scale = loss.start(traced_loss, engine, plan.batch.clock.sizes[0])
  done = run_tasks(engine, plan.order.tasks, begin)
  return lambda: gradients.BackwardPass(done, scale())


def _apply_effects(plan: Plan, engine: Engine, k: int) -> list[tf.Tensor]:
  """Sets accumulators and such; returns statistics outputs depend on."""
  traced, device = engine.traced, plan.cells[k].device
  notes = traced.function(k).notes
  results = [engine.results(k, m) for m in range(plan.batch.count)]
  plan.lingvo_cells[k].set_carry(results[-1].carry)
  values = [notes.values.Pack(result.values) for result in results]
  if notes.summaries:
    rows = [v.summaries for v in values]
    summaries.emit(notes.summaries, rows, plan.batch.shares, device)
  if notes.fetched:
    dims = OutputDims(plan, traced).of_fetched(k)
    for i, fetch in enumerate(notes.fetched):
      with on_device(device):
        fetch._activations = micro_batches.merge(
          [v.fetched[i] for v in values], dims[i]
        )
      # The gradients that a fetch layer keeps are those of one micro-batch.
      fetch._gradients = [None] * len(dims[i])
  if not notes.updates:
    return []
  packed = [v.moving_averages for v in values]
  return variable_stand_in.update(notes.updates, packed, device)


@dataclasses.dataclass(frozen=True)
class PipelineRun:
  plan: Plan
  engine: Engine
  backward: Callable[[], gradients.BackwardPass] | None
  statistics: Sequence[tf.Tensor]

  @property
  def constant_loss_weight(self) -> float | None:
    losses = [self._loss(m) for m in range(self.plan.batch.count)]
    return loss.constant_weight(losses, self.plan.batch.sizes)

  def _loss(self, m: int) -> loss.TracedLoss:
    function = self.engine.traced.function(len(self.plan.cells) - 1, m)
    traced: loss.TracedLoss = function.notes.own
    return traced

  def _results(self, k: int) -> list[CellOutputs]:
    return [self.engine.results(k, m) for m in range(self.plan.batch.count)]

  def outputs(self) -> Any:
    results = [r.outputs for r in self._results(len(self.plan.cells) - 1)]
    dims = OutputDims(self.plan, self.engine.traced).of_outputs()
    with on_device(self.plan.devices[-1]):
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
        self.plan.batch,
      )
    for i, tensor in zip(where, tensors, strict=False):
      flat[i] = tensor
    for aux_loss in tensors[len(where) :]:
      py_utils.AuxLossContext.Current().AddLoss(aux_loss)
    return tf.nest.pack_sequence_as(outputs, flat)

  def _aux_losses(self) -> list[tf.Tensor]:
    losses: list[tf.Tensor] = []
    for k, device in enumerate(self.plan.devices):
      rows = [result.losses for result in self._results(k)]
      if not rows[0]:
        continue
      with on_device(device):
        weighted = [
          [tf.cast(share, loss.dtype) * loss for loss in row]
          for share, row in zip(self.plan.batch.shares, rows, strict=True)
        ]
        losses += micro_batches.sum_in_order('aux_losses', weighted)
    return losses

  def metrics(self) -> py_utils.NestedMap:
    plan, device = self.plan, self.plan.devices[-1]
    columns = zip(*map(self._results, range(len(plan.cells))), strict=True)
    aux = [
      [x for result in column for x in result.losses] for column in columns
    ]
    values = [loss.values_of(self.engine, m) for m in range(plan.batch.count)]
    with on_device(device):
      known = plan.traces.combined
      metrics = loss.combine(self._loss(0), values, aux, known)
      # Lingvo averages over splits with the weights: no gradient there.
      metrics = tf.nest.map_structure(tf.stop_gradient, metrics)
    value, weight = metrics.loss
    metrics.loss = (*self._after_statistics([value]), weight)
    if not plan.training:
      return metrics
    assert self.backward is not None
    runs: dict[str, Callable[[], gradients.BackwardPass]] = {
      name: functools.cache(functools.partial(self._run_again, name))
      for name in sorted({*self._loss(0).differentiable, loss.AUX})
      if name in metrics
    }
    for name, run in {**runs, 'loss': self.backward}.items():
      value, weight = metrics[name]
      value = gradients.with_loss_inside(
        self._sources(), device, value, weight, run
      )
      metrics[name] = (value, weight)
    return metrics

  def _run_again(self, metric: str) -> gradients.BackwardPass:
    """Runs the pipeline again: its backward tasks are for the loss alone."""
    plan = self.plan
    reasons = _unrepeatable(plan, self.engine.traced)
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
    last = copy.copy(plan.lingvo_cells[-1])
    k = len(plan.cells) - 1
    last.compute = functools.partial(compute, plan.layer, k, metric)
    bodies = [*(cell.body for cell in plan.cells[:-1]), last.body]
    if metric != loss.AUX:
      bodies = [functools.partial(_without_losses, body) for body in bodies]
    cells = [
      dataclasses.replace(cell, body=body)
      for cell, body in zip(plan.cells, bodies, strict=True)
    ]
    traced = dataclasses.replace(self.engine.traced, cells=cells, known={})
    engine = Engine(traced, plan.batch.clock, plan.order.recomputed)
    return _run_with_loss(plan, engine)()

  def _sources(self) -> list[gradients.Source]:
    plan, sides = self.plan, self.plan.side_inputs
    path, trained = plan.layer.path, plan.layer.trained_variables
    device, count = plan.devices[0], plan.batch.count
    sources = []
    if plan.num_frozen == 0:
      sources.append(
        gradients.of_leaves(device, plan.inputs, count, self._input_gradients)
      )
    elif trained.filters:
      inputs = [leaf.tensor for leaf in plan.inputs]
      message = trained.not_computed(path, 'an input')
      sources.append(gradients.refusing(device, inputs, message))
    for name in sides.given:
      sources.append(
        gradients.of_leaves(
          sides.first_device(name),
          sides.leaves(name),
          count,
          functools.partial(Gradients.of_given, name=name),
        )
      )
    for k, cell in enumerate(plan.lingvo_cells):
      sources.append(gradients.of_weights(self.engine, k))
      if trained.filters:
        sources.append(
          trained_variables.refused(
            plan.layer, k, cell.layers, self.engine.traced.frozen_weights(k)
          )
        )
    for name in sorted(sides.first_takers.keys() - set(sides.given)):
      is_target = name == TARGETS_VALUE
      what = 'the targets' if is_target else f'side input {name!r}'
      tensors = [leaf.tensor for leaf in sides.leaves(name)]
      message = (
        f'{path}: a gradient of {what} is asked for. Nothing that is trained '
        'needs it, so the pipeline does not compute it. Make it an input: the '
        'gradient of an input is always available.'
      )
      device = sides.first_device(name)
      sources.append(gradients.refusing(device, tensors, message))
    return sources

  def _input_gradients(
    self, done: Gradients, m: int
  ) -> Sequence[tf.Tensor | None]:
    """Extra tasks compute gradients of data; they recompute the first cell."""
    if m == 0 and not self.plan.input_gradients:
      reasons = _unrepeatable(self.plan, self.engine.traced, slice(1))
      if reasons:
        raise ValueError(
          f'{self.plan.layer.path}: gradients of the inputs are asked for, '
          'though they depend on no weight. Extra tasks compute these, by '
          'running the first cell again whatever recompute says; but '
          f'{"; ".join(reasons)}.'
        )
    return done.of_inputs(m)

  def _after_statistics(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    if not self.statistics:
      return tensors
    with (
      on_device(self.plan.devices[-1]),
      tf.control_dependencies(self.statistics),
    ):
      return [tf.identity(t) for t in tensors]


def _without_losses(
  body: Callable[[CellInputs], CellOutputs], given: CellInputs
) -> CellOutputs:
  return dataclasses.replace(body(given), losses=[])
