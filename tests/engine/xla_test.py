# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules compiled by XLA: the same gradients, and a real recomputation."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

NUM_CELLS, MICRO_BATCHES = 2, 2

# The compiled program can be seen in TensorFlow's eager mode only, which
# importing Lingvo turns off in a process.
_PROGRAM = f"""
import json, sys
import numpy as np
import tensorflow as tf
from lingvo_gpipe.engine import engine
from lingvo_gpipe.engine.cell_function import Cell, CellOutputs
from lingvo_gpipe.engine.traced_cells import TracedCells
from lingvo_gpipe.schedules import make_schedule, recomputed

def body(cell):
  hidden = tf.tanh(tf.matmul(cell.inputs, cell.weights[0]))
  return CellOutputs(outputs=cell.inputs + hidden)

def step(x, w0, w1, recompute):
  inputs = tf.split(x, {MICRO_BATCHES})
  cells = [Cell('d0', '', body, [w0]), Cell('d1', '', body, [w1])]
  clock = engine.Clock(
    tf.constant(3, tf.int64), tf.constant(0, tf.int64), [2] * 2,
    tf.constant(4, tf.int64))
  schedule = make_schedule('1f1b', (0, 0), {MICRO_BATCHES})
  e = engine.Engine(
    TracedCells(cells, schedule, inputs), clock,
    recomputed(schedule, recompute))
  start = engine.LossGradients(lambda m: [e.results(1, m).outputs])
  gradients = engine.run_tasks(e, schedule.in_order(), start)
  return [gradients.of_weights(k)[0] for k in range({NUM_CELLS})]

rng = np.random.RandomState(0)
x = tf.constant(rng.randn(4, 3), tf.float32)
w = [tf.constant(rng.randn(3, 3), tf.float32) for _ in range(2)]
results = {{}}
for name, recompute, jit in (
  ('plain', 'always', False),
  ('always', 'always', True),
  ('never', 'never', True),
):
  fn = tf.function(
    lambda x, w0, w1: step(x, w0, w1, recompute), jit_compile=jit,
    autograph=False)
  gradients = [g.numpy().tolist() for g in fn(x, *w)]
  text = ''
  if jit:
    text = fn.experimental_get_compiler_ir(x, *w)(stage='optimized_hlo')
  results[name] = (gradients, text.count(' tanh('))
print('RESULT' + json.dumps(results))
"""


@pytest.fixture(scope='module')
def results():
  root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM],
    env={**os.environ, 'PYTHONPATH': root},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.partition('RESULT')[2])


@pytest.mark.parametrize('policy', ['always', 'never'])
def test_gradients_are_those_without_xla(policy, results):
  for compiled, plain in zip(
    results[policy][0], results['plain'][0], strict=True
  ):
    np.testing.assert_allclose(compiled, plain, rtol=1e-5, atol=1e-6)


def test_the_forward_pass_is_computed_again_where_it_is_to_be(results):
  tasks = NUM_CELLS * MICRO_BATCHES
  assert results['never'][1] == tasks
  # Under 1F1B the last cell would gain nothing by it.
  assert results['always'][1] == 2 * tasks - MICRO_BATCHES
