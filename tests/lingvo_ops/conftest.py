# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs each test of an op on our implementation and on Lingvo's own.

Lingvo's own is there where its library loads; what is asserted of one is
asserted of the other.
"""

import pytest
import tensorflow as tf
from lingvo.core import ops as lingvo_ops
from tensorflow.python.eager import context

from lingvo_gpipe.lingvo_ops import stand_in


@pytest.fixture
def stand_in_ops():
  """Our ops, whatever the host."""
  return stand_in.StandIn(
    "/lib/libc.so.6: version `GLIBC_2.38' not found (required by x_ops.so)"
  )


_LOADS = not isinstance(lingvo_ops.gen_x_ops, stand_in.StandIn)


@pytest.fixture
def native_ops():
  """Lingvo's own ops."""
  if not _LOADS:
    pytest.skip("Lingvo's custom-op library does not load on this host")
  return lingvo_ops.gen_x_ops


@pytest.fixture(params=['stand_in', 'native'] if _LOADS else ['stand_in'])
def ops(request):
  """Both in turn, where there are both."""
  return request.getfixturevalue(f'{request.param}_ops')


def _run_in_graph(build, times):
  with tf.Graph().as_default():
    fetches = build()
    with tf.compat.v1.Session() as session:
      return [session.run(fetches) for _ in range(times)]


def _run_in_function(build, times):
  def traced():
    outputs = build()
    if not isinstance(outputs, tf.Operation):
      return outputs
    with tf.control_dependencies([outputs]):
      return tf.constant(0)

  with context.eager_mode():
    function = tf.function(traced, autograph=False)
    return [_to_numpy(function()) for _ in range(times)]


def _run_eagerly(build, times):
  with context.eager_mode():
    return [_to_numpy(build()) for _ in range(times)]


def _to_numpy(values):
  return tf.nest.map_structure(
    lambda t: None if t is None else t.numpy(), values
  )


@pytest.fixture(params=[_run_in_graph, _run_in_function, _run_eagerly])
def run_times(request):
  """run_times(build, n): what n runs of the op that `build` makes give."""
  return request.param


@pytest.fixture(params=[_run_in_graph, _run_in_function])
def run_traced(request):
  """As run, without eager mode."""
  return lambda build: request.param(build, 1)[0]


@pytest.fixture
def run(run_times):
  """run(build): what one run of the op that `build` makes gives."""
  return lambda build: run_times(build, 1)[0]
