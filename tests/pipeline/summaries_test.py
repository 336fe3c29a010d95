# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Summaries taken out of a traced graph and made again outside."""

import lingvo.compat as tf

from lingvo_gpipe.engine import graph_function
from lingvo_gpipe.pipeline import summaries


def _trace(body):
  """The summaries of a traced graph of one float vector."""
  found = []

  def traced(x):
    with summaries.traced():
      body(x)
    found.extend(summaries.collect(tf.get_default_graph()))
    return [t for summary in found for t in summary.tensors]

  traced_graph = graph_function.trace(
    'f', traced, [tf.TensorSpec([2], tf.float32)]
  )
  return found, graph_function.GraphFunction('f', traced_graph)


def _emit(body, parts, shares):
  """The summaries of the mini-batch, by tag."""
  found, function = _trace(body)
  rows = []
  for part in parts:
    flat = iter(function([tf.constant(part, tf.float32)]))
    rows.append([[next(flat) for _ in s.tensors] for s in found])
  shares = [tf.constant(share) for share in shares]
  summaries.emit(found, rows, shares, '/cpu:0')
  with tf.Session() as sess:
    serialised = sess.run(tf.get_collection(tf.GraphKeys.SUMMARIES))
  values = [v for s in serialised for v in tf.Summary.FromString(s).value]
  return {v.tag: v for v in values}


def test_tags_get_the_scope_around_and_a_number_if_taken():
  def body(x):
    tf.summary.scalar('a', x[0])

  _emit(body, [[1, 0]], [1.0])
  _emit(body, [[2, 0]], [1.0])
  with tf.name_scope('tower'):
    got = _emit(body, [[3, 0]], [1.0])
  values = {tag: value.simple_value for tag, value in got.items()}
  assert values == {'a': 1.0, 'a_1': 2.0, 'tower/a': 3.0}
