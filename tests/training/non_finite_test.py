# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_function, graphs
from lingvo_gpipe.training import non_finite


@pytest.fixture
def graph():
  with tf.Graph().as_default() as graph:
    yield graph


def _find(tensor):
  with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    return non_finite.find(session, [tensor])


def test_the_first_op_is_named_and_not_what_follows(graph):
  x = tf.constant([1.0, -1.0])
  bad = tf.log(x, name='bad')
  found = _find(tf.reduce_sum(tf.square(bad) + 1.0))
  assert (found.ops, found.type, found.is_nan) == (('bad',), 'Log', True)
  assert str(found) == 'NaN first in op bad (Log)'


def test_the_search_follows_nan_rather_than_an_infinity_by_design(graph):
  mask = tf.constant([-1e38, 0.0], name='mask') * 10.0
  bad = tf.sqrt(tf.constant([-1.0, 4.0]), name='bad')
  assert _find(tf.nn.softmax(mask) + tf.exp(mask) + bad).ops == ('bad',)


def test_a_variable_is_named(graph):
  v = tf.get_variable('layer/w', initializer=[float('nan')], use_resource=True)
  assert str(_find(v * 2.0)) == 'the variable layer/w is NaN'


def test_cell_layer_and_micro_batch_are_those_of_the_task(graph):
  def cell(x, y):
    with tf.name_scope('layer_7'):
      return [x + y, tf.log(x - y, name='gap')]

  spec = tf.TensorSpec([2], tf.float32)
  function = graphs.as_function('cell_2_forward', cell, [spec, spec])
  with tf.name_scope('tower/cell_2_F5'):
    _, out = function([tf.constant([3.0, 1.0]), tf.constant([1.0, 3.0])])
  found = _find(tf.reduce_sum(out))
  assert found.ops[1:] == ('layer_7/gap',)
  assert str(found) == (
    'NaN first in cell_2, layer layer_7, op layer_7/gap (Log), of micro-batch 5'
  )


@pytest.mark.parametrize('bad', ['', 'table', 'op'])
def test_a_cell_that_reads_rows_of_a_variable_is_searched(graph, bad):
  rows = [[-1.0], [float('nan') if bad == 'table' else 1.0]]
  table = tf.get_variable('layer/table', initializer=rows, use_resource=True)

  def cell(ids):
    rows = tf.gather(table, ids)
    return [tf.log(rows, name='log') if bad == 'op' else rows]

  traced = graphs.trace('cell', cell, [tf.TensorSpec([2], tf.int32)])
  [out] = graph_function.GraphFunction('f', traced)(
    [tf.constant([0, 1]), *traced.external_captures]
  )
  found = _find(out)
  expected = {
    '': 'None',
    'table': 'the variable layer/table is NaN',
    'op': 'NaN first in op log (Log)',
  }
  assert str(found) == expected[bad]


@pytest.mark.parametrize('inside', [False, True])
def test_a_check_does_not_hide_what_is_before_it(graph, inside):
  def check(x):
    return [tf.debugging.check_numerics(x, 'bad')]

  bad = tf.log(tf.constant([-1.0]), name='bad')
  if inside:
    spec = tf.TensorSpec([1], tf.float32)
    [out] = graphs.as_function('checked', check, [spec])([bad])
  else:
    [out] = check(bad)
  assert _find(out + 1.0).ops == ('bad',)
