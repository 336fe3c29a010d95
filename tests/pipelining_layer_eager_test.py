# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""In eager mode, inside tf.function, results are those of graph mode."""

import os
import pickle
import subprocess
import sys

import pipeline_testing as pt
import pytest

# Lingvo's eager mode is a switch of the whole process, so this runs in one of
# its own.
_PROGRAM = """
import pickle, sys
import lingvo_gpipe
from absl import flags
flags.FLAGS(sys.argv[:1])
import lingvo.compat as tf
import pipeline_testing as pt
from lingvo.core import py_utils

tf.config.set_logical_device_configuration(
  tf.config.list_physical_devices('CPU')[0],
  [tf.config.LogicalDeviceConfiguration()] * 4)
py_utils.SetEagerMode(True)
tf.enable_v2_behavior()
examples = pt.data(7)
results = {}
for num_cells, schedule, recompute in pickle.loads(bytes.fromhex(sys.argv[1])):
  params = pt.pipeline_params(
    num_cells, schedule=schedule, recompute=recompute).Set(
      name=f'net{len(results)}')
  with pt.cluster(num_cells):
    py_utils.GetOrCreateGlobalStepVar().assign(3)
    tf.random.set_seed(7)
    layer = params.Instantiate()
    variables = layer.vars.Flatten()
    for v, value in zip(variables, pickle.loads(bytes.fromhex(sys.argv[2]))):
      v.assign(value)

    @tf.function(autograph=False)
    def step():
      with py_utils.GradientTape(persistent=True) as tape:
        metrics = layer.ComputeLoss(
          layer.theta, examples.inputs, examples.targets)
      return dict(metrics), tape.gradient(metrics.loss[0], variables)

    metrics, gradients = step()
  results[num_cells, schedule, recompute] = (
    {k: tuple(x.numpy() for x in v) for k, v in metrics.items()},
    [tf.convert_to_tensor(g).numpy() for g in gradients],
  )
sys.stdout.buffer.write(b'RESULT' + pickle.dumps(results))
"""

_CASES = [
  (1, 'gpipe', 'always'),
  (3, '1f1b', 'always'),
  (3, 'gpipe', 'never'),
]


@pytest.fixture(scope='module')
def eager_results():
  import lingvo.compat as tf

  with pt.cluster(1), tf.Graph().as_default() as graph:
    tf.random.set_seed(7)
    layer = pt.pipeline_params(1).Instantiate()
    with pt.session(1, graph) as sess:
      sess.run(tf.global_variables_initializer())
      values = sess.run(layer.vars.Flatten())
      names = [v.name for v in layer.vars.Flatten()]
  tests = os.path.dirname(os.path.abspath(__file__))
  path = os.pathsep.join([os.path.dirname(tests), tests])
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM]
    + [pickle.dumps(x).hex() for x in (_CASES, values)],
    env={**os.environ, 'PYTHONPATH': path},
    capture_output=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr.decode()[-3000:]
  return names, pickle.loads(done.stdout.partition(b'RESULT')[2])


@pytest.mark.parametrize('case', _CASES)
def test_tf_function_gives_what_graph_mode_gives(case, eager_results):
  names, results = eager_results
  metrics, gradients = results[case]
  num_cells, schedule, recompute = case
  graph_mode = pt.run_step(
    pt.pipeline_params(num_cells, schedule=schedule, recompute=recompute),
    pt.data(7),
  )
  eager_mode = pt.Result(metrics, dict(zip(names, gradients, strict=True)))
  pt.assert_identical(eager_mode, graph_mode)
