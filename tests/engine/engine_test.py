# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the engine puts into the graph for a schedule."""

import collections
import itertools

import engine_testing as et
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe import schedules
from lingvo_gpipe.engine.cell_function import CellOutputs


def _engine(
  num_cells=2,
  num_micro_batches=3,
  schedule='gpipe',
  recompute='always',
  num_layers=1,
  devices=None,
  trained=None,
  num_weights=1,
  **kwargs,
):
  """An engine with cells alike, all its tasks emitted."""
  devices = devices or et.DEVICES[:num_cells]
  trained = trained or [True] * len(devices)
  cells = [
    et.cell(
      *(k, et.dense(num_layers), num_weights, device),
      trained=[trained[k]] * num_weights,
    )
    for k, device in enumerate(devices)
  ]
  kwargs.setdefault('first_backward', trained.index(True))
  return et.emit(
    cells, et.rows(num_micro_batches), schedule, recompute, **kwargs
  )


def _scope(task):
  return f'd{task.cell}_{task.kind.value}{task.micro_batch}'


@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
def test_each_task_is_one_call_on_its_cells_device_or_two(graph, schedule):
  made, _, plan = _engine(3, 4, schedule)
  calls = et.calls(graph)
  tasks = plan.in_order()
  assert sorted(calls) == sorted(map(_scope, tasks))
  for task in tasks:
    of_task = calls[_scope(task)]
    # Under 1F1B the last cell recomputes nothing.
    recomputes = task.kind == schedules.TaskKind.BACKWARD and not (
      schedule == '1f1b' and task.cell == 2
    )
    assert len(of_task) == 1 + recomputes
    device = made.traced.cells[task.cell].device
    assert {call.device for call in of_task} == {device}


def _runs_before(first, second):
  """Whether an edge leads from one op to another."""
  return first in second.control_inputs or any(
    tensor.op is first for tensor in second.inputs
  )


@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
@pytest.mark.parametrize(
  'devices',
  [et.DEVICES[:3], [et.DEVICES[0], et.DEVICES[1], et.DEVICES[0]]],
)
def test_control_edges_follow_the_schedule_on_each_device(
  graph, schedule, devices
):
  _, _, plan = _engine(3, 4, schedule, devices=devices)
  calls = et.calls(graph)
  for tasks in plan.device_tasks:
    ops = [op for task in tasks for op in calls[_scope(task)]]
    assert len(ops) > 4
    for first, second in itertools.pairwise(ops):
      assert _runs_before(first, second), (first.name, second.name)


def test_the_graph_grows_with_tasks_and_not_with_layers():
  def size(**kwargs):
    with tf.Graph().as_default() as graph:
      _engine(**kwargs)
      return len(graph.get_operations())

  assert size(num_layers=9) == size(num_layers=1)
  by_count = [size(num_micro_batches=m) for m in (2, 3, 4)]
  assert by_count[2] - by_count[1] == by_count[1] - by_count[0]


@pytest.mark.parametrize('recompute', ['always', 'never'])
def test_a_call_has_no_more_inputs_with_more_weights(recompute):
  def most_inputs(num_weights):
    with tf.Graph().as_default() as graph:
      _engine(recompute=recompute, num_weights=num_weights)
      calls = itertools.chain(*et.calls(graph).values())
      return max(len(op.inputs) for op in calls)

  assert most_inputs(20) == most_inputs(2)


def test_functions_are_shared_by_all_micro_batches(graph):
  _engine(num_micro_batches=5, recompute='except_last')
  called = collections.Counter(
    op.get_attr('f').name.rpartition('_')[0]
    for ops in et.calls(graph).values()
    for op in ops
  )
  assert len(called) <= 2 * 5, called
  assert sum(called.values()) == 2 * (5 + 5 + 4)


@pytest.mark.parametrize(
  ('schedule', 'recompute', 'recomputed'),
  [
    ('gpipe', 'always', 2 * 3),
    ('gpipe', 'except_last', 2 * 2),
    ('gpipe', 'never', 0),
    # The last cell's backward tasks come right after their forward tasks.
    ('1f1b', 'always', 3),
    ('1f1b', 'except_last', 2),
    ('1f1b', 'never', 0),
  ],
)
def test_what_saves_memory_is_recomputed(schedule, recompute, recomputed):
  made, gradients, _ = _engine(2, 3, schedule, recompute)
  of_weights = [gradients.of_weights(k) for k in range(2)]
  outputs = [made.results(1, m).outputs for m in range(3)]
  # Two cells with one tanh each.
  _, count = et.run((of_weights, outputs), 'Tanh')
  assert count == 2 * 3 + recomputed


def test_a_cell_keeps_nothing_for_gradients_that_are_not_wanted(graph):
  _engine(2, 2, recompute='never', trained=[True, False])
  calls = et.calls(graph)
  # What tanh returned; of the product in cell 0 the factor is the argument.
  for name in ('d0_F0', 'd1_F0'):
    assert len(calls[name][0].outputs) == 2
  [backward] = calls['d1_B0']
  argument = calls['d0_F0'][0].outputs[0]
  assert not any(tensor is argument for tensor in backward.inputs)


# -- A backward pass in two tasks.

_BODIES = [(et.dense(), 2), (et.dense(), 1), (None, 0), (et.dense(), 1)]


def _sine(given):
  return CellOutputs(tf.sin(given.inputs))


def _split(schedule, recompute, bodies):
  """Gradients of the weights, how many products ran, tasks and graph."""
  with tf.Graph().as_default() as graph:
    tf.set_random_seed(1)
    cells = [
      et.cell(k, body or _sine, num_weights)
      for k, (body, num_weights) in enumerate(bodies)
    ]
    made, gradients, _ = et.emit(cells, et.rows(3), schedule, recompute)
    found = [gradients.of_weights(k) for k in range(len(cells))]
    values, count = et.run(found, 'MatMul')
    tasks = {str(task) for task in made.emitted.task_of_op.values()}
  return tf.nest.flatten(values), count, tasks, graph


@pytest.mark.parametrize('recompute', schedules.RECOMPUTE_POLICIES)
def test_bits_and_work_are_those_of_a_whole_backward_pass(recompute):
  whole = _split('1f1b', recompute, _BODIES)
  split = _split('zb_h1', recompute, _BODIES)
  for a, b in zip(whole[0], split[0], strict=True):
    np.testing.assert_array_equal(a, b)
  assert whole[1] == split[1] > 0


def test_what_has_nothing_to_do_is_not_emitted():
  _, _, tasks, _ = _split('zb_h1', 'never', _BODIES)
  for m in range(3):
    # Nobody wants gradients of the first cell's inputs; the third has no
    # weights.
    assert not {f'B0.{m}', f'W2.{m}'} & tasks
    assert {f'{name}.{m}' for name in ('W0', 'B1', 'W1', 'B2', 'B3', 'W3')} <= (
      tasks
    )


def test_weight_gradients_are_handed_only_what_they_read():
  _, _, _, graph = _split('zb_h1', 'never', [(et.dense(), 1)] * 2)
  [call] = et.calls(graph)['d1_W0']
  # The cell's input, and the gradient before the product.
  assert [t.dtype.name for t in call.inputs] == ['float32', 'float32']
  definitions = {
    f.signature.name: f for f in graph.as_graph_def().library.function
  }
  ops = [n.op for n in definitions[call.get_attr('f').name].node_def]
  assert 'TanhGrad' not in ops
  assert ops.count('MatMul') == 1
