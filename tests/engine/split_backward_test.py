# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A backward pass in two tasks computes each thing once, and the same bits."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe import schedules
from lingvo_gpipe.engine import backward_tasks, engine
from lingvo_gpipe.engine.cell_function import CellOutputs
from lingvo_gpipe.engine.traced_cells import Cell, TracedCells

_WIDTH = 4
_MICRO_BATCHES = 3


def _dense(cell):
  y = cell.inputs
  for weight in cell.weights:
    y = tf.tanh(tf.matmul(y, weight))
  return CellOutputs(outputs=y)


def _plain(cell):
  return CellOutputs(outputs=tf.sin(cell.inputs))


def _run(schedule, recompute, bodies):
  """Gradients of the weights, values and graph; by counting products."""
  with tf.Graph().as_default() as graph:
    tf.set_random_seed(1)
    cells = []
    for k, (body, num_weights) in enumerate(bodies):
      weights = [
        tf.get_variable(f'w{k}_{i}', [_WIDTH, _WIDTH], use_resource=True)
        for i in range(num_weights)
      ]
      cells.append(Cell(f'd{k}', f'/cpu:{k}', body, weights))
    plan = schedules.make_schedule(schedule, range(len(cells)), _MICRO_BATCHES)
    rows = np.random.RandomState(0).randn(_MICRO_BATCHES, 2, _WIDTH)
    clock = engine.Clock(
      step=tf.constant(0, tf.int64),
      seed=tf.constant(0, tf.int64),
      sizes=[2] * _MICRO_BATCHES,
      batch=tf.constant(2 * _MICRO_BATCHES, tf.int64),
    )
    inputs = [tf.constant(row, tf.float32) for row in rows]
    made = engine.Engine(
      TracedCells(cells, plan, inputs),
      clock,
      schedules.recomputed(plan, recompute),
    )
    gradients = backward_tasks.run_tasks(
      made,
      plan.in_order(),
      backward_tasks.LossGradients(lambda m: [tf.ones([2, _WIDTH])]),
    )
    found = [gradients.of_weights(k) for k in range(len(cells))]
    found = [g for of_cell in found for g in of_cell]
    run = tf.RunMetadata()
    config = tf.ConfigProto(device_count={'CPU': len(cells)})
    with tf.Session(config=config) as session:
      session.run(tf.global_variables_initializer())
      options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
      values = session.run(found, options=options, run_metadata=run)
    executed = [
      node.timeline_label
      for device in run.step_stats.dev_stats
      for node in device.node_stats
    ]
    num_products = sum(
      '= MatMul' in label or '= _MklMatMul' in label for label in executed
    )
    tasks = {str(task) for task in made.emitted.task_of_op.values()}
  return values, num_products, tasks, graph


_BODIES = [(_dense, 2), (_dense, 1), (_plain, 0), (_dense, 1)]


@pytest.mark.parametrize('recompute', schedules.RECOMPUTE_POLICIES)
def test_bits_and_work_are_those_of_a_whole_backward_pass(recompute):
  whole = _run('1f1b', recompute, _BODIES)
  split = _run('zb_h1', recompute, _BODIES)
  for a, b in zip(whole[0], split[0], strict=True):
    np.testing.assert_array_equal(a, b)
  assert whole[1] == split[1] > 0


def test_what_has_nothing_to_do_is_not_emitted():
  _, _, tasks, _ = _run('zb_h1', 'never', _BODIES)
  for m in range(_MICRO_BATCHES):
    # Nobody wants gradients of the first cell's inputs.
    assert f'B0.{m}' not in tasks
    assert f'W0.{m}' in tasks
    # A cell without weights.
    assert f'B2.{m}' in tasks
    assert f'W2.{m}' not in tasks
    assert {f'B1.{m}', f'W1.{m}', f'B3.{m}', f'W3.{m}'} <= tasks


def test_weight_gradients_are_handed_only_what_they_read():
  _, _, _, graph = _run('zb_h1', 'never', [(_dense, 1), (_dense, 1)])
  [call] = [
    op
    for op in graph.get_operations()
    if op.type == 'PartitionedCall' and op.name.startswith('d1_W0/')
  ]
  # The cell's input, and the gradient before the product.
  assert [t.dtype.name for t in call.inputs] == ['float32', 'float32']
  definitions = {
    f.signature.name: f for f in graph.as_graph_def().library.function
  }
  ops = [n.op for n in definitions[call.get_attr('f').name].node_def]
  assert 'TanhGrad' not in ops
  assert ops.count('MatMul') == 1
