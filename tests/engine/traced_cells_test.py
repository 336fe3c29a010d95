# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Between which cells values with names go, and their gradients."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe import schedules
from lingvo_gpipe.engine import backward_tasks, engine, traced_cells
from lingvo_gpipe.engine.cell_function import CellOutputs
from lingvo_gpipe.engine.traced_cells import Cell

_DEVICES = [f'/job:localhost/replica:0/task:0/device:CPU:{k}' for k in range(4)]


def _cell(puts=(), takes=()):
  return Cell('d', '', lambda given: None, [], puts=puts, takes=takes)


def test_routes():
  sources, takers = traced_cells._routes(
    [
      _cell(puts=['a', 'b']),
      _cell(takes=['a']),
      _cell(),
      _cell(puts=['c'], takes=['b', 'a']),
      _cell(takes=['a', 'c', 'given']),
    ],
    ['given'],
  )
  assert sources == {'a': 0, 'b': 0, 'c': 3, 'given': traced_cells.OUTSIDE}
  assert takers == {'a': [1, 3, 4], 'b': [3], 'c': [4], 'given': [4]}


@pytest.mark.parametrize(
  'cells',
  [
    [_cell(takes=['a']), _cell(puts=['a'])],
    [_cell(puts=['a']), _cell(puts=['a']), _cell(takes=['a'])],
    [_cell(puts=['a'])],
  ],
)
def test_routes_that_lead_nowhere(cells):
  with pytest.raises(AssertionError):
    traced_cells._routes(cells, [])


def _bodies():
  """Four cells: d0 puts x and ids, d1 and d3 take x, d3 ids."""

  def first(given):
    x = given.inputs * given.weights[0]
    return CellOutputs(tf.sin(x), put={'x': x, 'ids': (tf.constant([0]), None)})

  def second(given):
    x = given.taken['x']
    y = given.inputs * x * given.weights[0]
    return CellOutputs(y, rests={'x': tf.identity(x)})

  def third(given):
    return CellOutputs(tf.sin(given.inputs * given.weights[0]))

  def fourth(given):
    ids, none = given.taken['ids']
    assert none is None
    scale = tf.cast(ids[0] + 3, tf.float32)
    return CellOutputs(given.inputs * given.taken['x'] * scale)

  takes = [(), ('x',), (), ('x', 'ids')]
  puts = [('ids', 'x'), (), (), ()]
  return zip((first, second, third, fourth), takes, puts, strict=True)


@pytest.mark.parametrize('recompute', schedules.RECOMPUTE_POLICIES)
@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
def test_values_and_gradients_go_by_name(schedule, recompute):
  with tf.Graph().as_default() as graph:
    cells, inputs = [], [tf.constant([0.5 + m]) for m in range(2)]
    for k, (body, takes, puts) in enumerate(_bodies()):
      with tf.device(_DEVICES[k]):
        w = tf.placeholder_with_default([0.7 + k], [1])
      cells.append(
        Cell(f'd{k}', _DEVICES[k], body, [w], takes=takes, puts=puts)
      )
    plan = schedules.make_schedule(schedule, (0, 1, 2, 3), 2)
    clock = engine.Clock(
      step=tf.constant(0, tf.int64),
      seed=tf.constant(0, tf.int64),
      sizes=[1, 1],
      batch=tf.constant(2, tf.int64),
    )
    traced = traced_cells.TracedCells(cells, plan, inputs)
    start = backward_tasks.LossGradients(lambda m: [tf.ones([1])])
    gradients = backward_tasks.run_tasks(
      engine.Engine(traced, clock, schedules.recomputed(plan, recompute)),
      plan.in_order(),
      start,
    )
    got = [gradients.of_weights(k)[0] for k in range(4)]
    ws = [cell.weights[0] for cell in cells]
    total = 0.0
    for x in inputs:
      x = x * ws[0]
      total += tf.sin(tf.sin(x) * x * ws[1] * ws[2]) * x * 3
    expected = tf.gradients(total, ws[:3])
    assert got.pop() is None
    with tf.Session(config=tf.ConfigProto(device_count={'CPU': 4})) as sess:
      got, expected = sess.run((got, expected))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    # Nothing of x or ids goes into the calls of d2: its input, the weight and
    # the context.
    calls = [
      op
      for op in graph.get_operations()
      if op.name.startswith('d2_F') and 'PartitionedCall' in op.type
    ]
    assert [len(op.inputs) for op in calls] == [3, 3]
