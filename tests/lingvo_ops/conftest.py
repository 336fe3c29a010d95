# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs each test of an op on ours and, where its library loads, Lingvo's."""

import pytest
import tensorflow as tf
from lingvo.core import ops as lingvos_ops
from tensorflow.python.eager import context

from lingvo_gpipe import lingvo_ops


@pytest.fixture
def stand_in_ops():
  return lingvo_ops.StandIn("version `GLIBC_2.38' not found")


_LOADS = not isinstance(lingvos_ops.gen_x_ops, lingvo_ops.StandIn)


@pytest.fixture
def native_ops():
  if not _LOADS:
    pytest.skip("Lingvo's custom-op library does not load on this host")
  return lingvos_ops.gen_x_ops


@pytest.fixture(params=['stand_in', 'native'] if _LOADS else ['stand_in'])
def ops(request):
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
    return [function().numpy() for _ in range(times)]


def _run_eagerly(build, times):
  with context.eager_mode():
    return [build().numpy() for _ in range(times)]


@pytest.fixture(params=[_run_in_graph, _run_in_function, _run_eagerly])
def run_times(request):
  """run_times(build, n): what n runs of the op that `build` makes give."""
  return request.param


@pytest.fixture(params=[_run_in_graph, _run_in_function])
def run_traced(request):
  """run_traced(build): one run of the op, not in eager mode."""
  return lambda build: request.param(build, 1)[0]
