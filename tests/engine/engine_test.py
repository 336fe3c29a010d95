# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the engine puts into the graph for a schedule."""

import collections
import itertools
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe import schedules
from lingvo_gpipe.engine import backward_tasks, engine, graph_walks
from lingvo_gpipe.engine.cell_function import CellOutputs
from lingvo_gpipe.engine.traced_cells import Cell, TracedCells

_WIDTH = 4
_DEVICES = [f'/job:localhost/replica:0/task:0/device:CPU:{k}' for k in range(3)]


@pytest.fixture(autouse=True)
def graph():
  with tf.Graph().as_default() as graph:
    tf.set_random_seed(1)
    yield graph


def _body(num_layers):
  def body(given):
    x = given.inputs
    for _ in range(num_layers):
      for weight in given.weights:
        x = tf.tanh(tf.matmul(x, weight))
    return CellOutputs(x)

  return body


def _engine(
  num_cells=2,
  num_micro_batches=3,
  schedule='gpipe',
  recompute='always',
  num_layers=1,
  devices=None,
  forward_only=False,
  input_gradients=False,
  trained=None,
  num_weights=1,
):
  """An engine, all its tasks emitted, for the loss sum(outputs).

  Args:
    trained: For each cell, whether it is trained; all are by default.
  """
  devices = devices or _DEVICES[:num_cells]
  cells = []
  for k, device in enumerate(devices):
    with tf.device(device):
      weights = [
        tf.get_variable(f'w{k}_{i}', [_WIDTH, _WIDTH], use_resource=True)
        for i in range(num_weights)
      ]
    flags = None if trained is None else [trained[k]] * num_weights
    body = _body(num_layers)
    cells.append(Cell(f'd{k}', device, body, weights, trained=flags))
  numbers = [sorted(set(devices)).index(d) for d in devices]
  plan = schedules.make_schedule(
    schedule,
    tuple(numbers),
    num_micro_batches,
    forward_only=forward_only,
    first_backward=0 if trained is None else trained.index(True),
  )
  rows = np.random.RandomState(0).randn(num_micro_batches, 2, _WIDTH)
  inputs = [tf.constant(row, tf.float32) for row in rows]
  clock = engine.Clock(
    step=tf.constant(0, tf.int64),
    seed=tf.constant(0, tf.int64),
    sizes=[2] * num_micro_batches,
    batch=tf.constant(2 * num_micro_batches, tf.int64),
  )
  traced = TracedCells(cells, plan, inputs, input_gradients=input_gradients)
  made = engine.Engine(traced, clock, schedules.recomputed(plan, recompute))
  start = backward_tasks.LossGradients(lambda m: [tf.ones([2, _WIDTH])])
  gradients = backward_tasks.run_tasks(made, plan.in_order(), start)
  return made, gradients, plan, cells, inputs


def _calls(graph):
  """The calls of the cells' functions, by task: name scope 'cell_kindM'."""
  calls = collections.defaultdict(list)
  for op in graph.get_operations():
    if 'PartitionedCall' in op.type:
      calls[op.name.partition('/')[0]].append(op)
  return calls


def _scope(task):
  return f'd{task.cell}_{task.kind.value}{task.micro_batch}'


@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
def test_each_task_is_one_call_on_its_cells_device_or_two(graph, schedule):
  _, _, plan, cells, _ = _engine(3, 4, schedule)
  calls = _calls(graph)
  tasks = plan.in_order()
  assert sorted(calls) == sorted(map(_scope, tasks))
  for task in tasks:
    of_task = calls[_scope(task)]
    # Under 1F1B the last cell recomputes nothing.
    recomputes = task.kind == schedules.TaskKind.BACKWARD and not (
      schedule == '1f1b' and task.cell == 2
    )
    assert len(of_task) == 1 + recomputes
    assert {call.device for call in of_task} == {cells[task.cell].device}


def _runs_before(first, second):
  """Whether an edge leads from one op to another."""
  return first in second.control_inputs or any(
    tensor.op is first for tensor in second.inputs
  )


@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
@pytest.mark.parametrize(
  'devices', [_DEVICES, [_DEVICES[0], _DEVICES[1], _DEVICES[0]]]
)
def test_control_edges_follow_the_schedule_on_each_device(
  graph, schedule, devices
):
  _, _, plan, _, _ = _engine(3, 4, schedule, devices=devices)
  calls = _calls(graph)
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
      calls = itertools.chain(*_calls(graph).values())
      return max(len(op.inputs) for op in calls)

  assert most_inputs(20) == most_inputs(2)


def test_functions_are_shared_by_all_micro_batches(graph):
  _engine(num_micro_batches=5, recompute='except_last')
  called = collections.Counter(
    op.get_attr('f').name.rpartition('_')[0]
    for ops in _calls(graph).values()
    for op in ops
  )
  assert len(called) <= 2 * 5, called
  assert sum(called.values()) == 2 * (5 + 5 + 4)


def test_functions_read_no_variables(graph):
  _engine()
  definitions = graph_walks.definitions(graph)
  ops = {node.op for d in definitions.values() for node in d.node_def}
  assert 'MatMul' in ops
  assert not ops & {'ReadVariableOp', 'VarHandleOp'}


def _executed(sess, fetches, op_type):
  """How many ops of a type a step executes, those in functions included."""
  metadata = tf.RunMetadata()
  sess.run(
    fetches,
    options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
    run_metadata=metadata,
  )
  labels = {
    (node.node_name, node.all_start_nanos, node.timeline_label)
    for device in metadata.step_stats.dev_stats
    for node in device.node_stats
    # Of any variant, such as oneDNN's _MklMatMul.
    if re.search(rf' = \w*{op_type}\(', node.timeline_label)
  }
  return len(labels)


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
  made, gradients, _, _, _ = _engine(2, 3, schedule, recompute)
  of_weights = [gradients.of_weights(k) for k in range(2)]
  outputs = [made.results(1, m).outputs for m in range(3)]
  with tf.Session(config=tf.ConfigProto(device_count={'CPU': 3})) as sess:
    sess.run(tf.global_variables_initializer())
    count = _executed(sess, (of_weights, outputs), 'Tanh')
  # Two cells with one tanh each.
  assert count == 2 * 3 + recomputed


@pytest.mark.parametrize('recompute', schedules.RECOMPUTE_POLICIES)
@pytest.mark.parametrize('input_gradients', [False, True])
def test_gradients_are_those_of_tensorflow(recompute, input_gradients):
  made, gradients, _, cells, inputs = _engine(
    3, 2, '1f1b', recompute, num_layers=2, input_gradients=input_gradients
  )
  weights = [cell.weights[0] for cell in cells]
  x = tf.stack(inputs)
  y = x
  for w in weights:
    for _ in range(2):
      y = tf.tanh(tf.einsum('mbi,ij->mbj', y, w))
  d_x, *d_weights = tf.gradients(tf.reduce_sum(y), [x, *weights])
  got = (
    tf.stack([made.results(2, m).outputs for m in range(2)]),
    [gradients.of_weights(k)[0] for k in range(3)],
    # Also there if the backward tasks do not make them.
    tf.stack([gradients.of_inputs(m)[0] for m in range(2)]),
  )
  with tf.Session(config=tf.ConfigProto(device_count={'CPU': 3})) as sess:
    sess.run(tf.global_variables_initializer())
    got, expected = sess.run((got, (y, d_weights, d_x)))
  for a, b in zip(tf.nest.flatten(got), tf.nest.flatten(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('input_gradients', [False, True])
def test_unwanted_gradients_of_the_inputs_are_not_computed(input_gradients):
  made, gradients, _, _, _ = _engine(1, 1, input_gradients=input_gradients)
  with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    fetches = (made.results(0, 0).outputs, gradients.of_weights(0))
    count = _executed(sess, fetches, 'MatMul')
  # Forward, forward again, the weight's gradient, and maybe the input's.
  assert count == 3 + input_gradients


def test_evaluation_has_forward_tasks_alone(graph):
  made, *_ = _engine(2, 3, forward_only=True)
  calls = _calls(graph)
  assert len(calls) == 2 * 3
  assert not any('backward' in name for name in calls)
  assert made.results(1, 2).outputs.shape.as_list() == [2, _WIDTH]


@pytest.mark.parametrize('recompute', schedules.RECOMPUTE_POLICIES)
@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
@pytest.mark.parametrize(
  'trained', [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1]]
)
def test_what_is_not_trained_is_not_differentiated(
  graph, trained, schedule, recompute
):
  trained = list(map(bool, trained))
  made, gradients, plan, cells, inputs = _engine(
    3, 3, schedule, recompute, trained=trained
  )
  assert sorted(_calls(graph)) == sorted(map(_scope, plan.in_order()))
  weights = [cell.weights[0] for cell in cells]
  y = tf.stack(inputs)
  for w in weights:
    y = tf.tanh(tf.einsum('mbi,ij->mbj', y, w))
  of_trained = list(itertools.compress(weights, trained))
  expected = tf.gradients(tf.reduce_sum(y), of_trained)
  outputs = [made.results(2, m).outputs for m in range(3)]
  found = [gradients.of_weights(k) for k in range(3)]
  assert list(map(len, found)) == trained
  with tf.Session(config=tf.ConfigProto(device_count={'CPU': 3})) as sess:
    sess.run(tf.global_variables_initializer())
    count = _executed(sess, (outputs, found), 'MatMul')
    found, expected = sess.run((tf.nest.flatten(found), expected))
  for a, b in zip(found, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
  # Of the weights that are trained, and of data behind the first of these.
  products = sum(trained) + (2 - trained.index(True))
  again = sum(map(len, schedules.recomputed(plan, recompute)))
  assert count == 3 * (3 + products) + again


def test_a_cell_keeps_nothing_for_gradients_that_are_not_wanted(graph):
  _engine(2, 2, recompute='never', trained=[True, False])
  kept = {name: _calls(graph)[name][0].outputs for name in ('d0_F0', 'd1_F0')}
  # What tanh returned; of the product in cell 0 the factor is the argument.
  assert {name: len(outputs) for name, outputs in kept.items()} == {
    'd0_F0': 2,
    'd1_F0': 2,
  }
  [backward] = _calls(graph)['d1_B0']
  argument = _calls(graph)['d0_F0'][0].outputs[0]
  assert not any(tensor is argument for tensor in backward.inputs)
