# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""In eager mode, inside tf.function, results are those of graph mode."""

import functools
import pickle
import subprocess
import sys

import child_process
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import shared_model
import tied_model
import tiny_pipeline

# Lingvo's eager mode is a switch of the whole process, so this runs in one of
# its own.
_PROGRAM = """
import gc, pickle, sys, weakref
import numpy as np
import lingvo_gpipe
from absl import flags
flags.FLAGS(sys.argv[:1])
import lingvo.compat as tf
import pipeline_testing as pt
import pipelining_layer_eager_test as test
from lingvo.core import py_utils
from lingvo_gpipe.pipeline import lingvo_cell

tf.config.set_logical_device_configuration(
  tf.config.list_physical_devices('CPU')[0],
  [tf.config.LogicalDeviceConfiguration()] * 4)
py_utils.SetEagerMode(True)
tf.enable_v2_behavior()
results = {}
dropped = []
eager_steps = {}
traced = []
body = lingvo_cell.LingvoCell.body
def counted(self, inputs):
  traced.append(self.name)
  return body(self, inputs)
lingvo_cell.LingvoCell.body = counted
values = pickle.loads(bytes.fromhex(sys.argv[1]))
for case in test.CASES:
  params, compute = test.pipeline(*case)
  params.name = f'net{len(results)}'
  with pt.cluster(len(params.cell_tpl)):
    py_utils.GetOrCreateGlobalStepVar().assign(3)
    tf.random.set_seed(7)
    layer = params.Instantiate()
    variables = {
      test.name_in(v): v for v in layer.vars.Flatten()}
    for name, v in variables.items():
      v.assign(values[case[0]][name])

    def step():
      with py_utils.GradientTape(persistent=True) as tape:
        metrics = compute(layer)
      return dict(metrics), tape.gradient(metrics['loss'][0], variables)

    def eagerly():
      before = len(traced)
      py_utils.ResetStepSeed(5)
      metrics, gradients = step()
      return len(traced) - before, metrics['loss'][0].numpy(), {
        k: tf.convert_to_tensor(g).numpy() for k, g in gradients.items()}

    eager = [eagerly(), eagerly()]
    for v in variables.values():
      v.assign(v * 0.5)
    py_utils.GetOrCreateGlobalStepVar().assign(4)
    eager.append(eagerly())
    layer.eager_traces.clear()
    eager.append(eagerly())
    eager_steps[case] = eager
    for name, v in variables.items():
      v.assign(values[case[0]][name])
    py_utils.GetOrCreateGlobalStepVar().assign(3)

    step = tf.function(step, autograph=False)
    metrics, gradients = step()
    dropped += [
      weakref.ref(layer), weakref.ref(step.get_concrete_function().graph)]
  results[case] = (
    {k: tuple(np.array(x) for x in v) for k, v in metrics.items()},
    {k: tf.convert_to_tensor(g).numpy() for k, g in gradients.items()},
  )
del layer, step, variables, compute
gc.collect()
results['eager'] = eager_steps
results['kept'] = sum(ref() is not None for ref in dropped)
sys.stdout.buffer.write(b'RESULT' + pickle.dumps(results))
"""

CASES = [
  ('conv', 1, 'gpipe', 'always'),
  ('conv', 3, '1f1b', 'always'),
  ('conv', 3, 'gpipe', 'never'),
  ('tied', 3, '1f1b', 'always'),
  ('weightless', 2, '1f1b', 'never'),
  ('shared', 2, '1f1b', 'always'),
  ('shared outside', 2, 'gpipe', 'never'),
  ('second loss', 2, '1f1b', 'always'),
]


def pipeline(model, num_cells, schedule='gpipe', recompute='always'):
  """Params, and what maps the layer to its metrics."""
  kwargs = {'schedule': schedule, 'recompute': recompute}
  if model == 'tied':
    cuts = {1: (), 3: (2, 4)}[num_cells]
    return tied_model.pipeline(cuts, **kwargs), tied_model.compute_loss
  if model.startswith('shared'):
    compute = shared_model.compute_loss
    if model == 'shared outside':
      compute = shared_model.compute_outside
    return shared_model.pipeline(num_cells, **kwargs), compute
  if model == 'second loss':
    loss = tiny_pipeline.TwoLosses.Params().Set(name='loss')
    subs = tiny_pipeline.linear('a', 'b')
    return tiny_pipeline.pipeline(
      subs, num_cells, loss_tpl=loss, **kwargs
    ), _second_loss
  examples = pt.data(7)
  if model == 'weightless':
    # All of a micro-batch: what the loss divides by is 0.
    examples.weights[2:4] = 0
  return pt.pipeline_params(
    num_cells, **kwargs
  ), lambda layer: layer.ComputeLoss(
    layer.theta, examples.inputs, examples.targets
  )


def _second_loss(layer):
  x = tf.constant(tiny_pipeline.inputs())
  metrics = layer.ComputeLoss(layer.theta, x, tf.ones([8]))
  return {'loss': metrics.size}


def name_in(variable):
  """A variable's name without that of the pipeline."""
  return variable.name.partition('/')[2]


@functools.cache
def _initial_values(model):
  with pt.cluster(1), tf.Graph().as_default() as graph:
    tf.random.set_seed(7)
    layer = pipeline(model, 1)[0].Instantiate()
    with pt.session(1, graph) as sess:
      sess.run(tf.global_variables_initializer())
      return sess.run({name_in(v): v for v in layer.vars.Flatten()})


@pytest.fixture(scope='module')
def eager_results():
  values = {model: _initial_values(model) for model, *_ in CASES}
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM, pickle.dumps(values).hex()],
    cwd=child_process.ROOT / 'tests',
    env=child_process.environment(),
    capture_output=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr.decode()[-3000:]
  return pickle.loads(done.stdout.partition(b'RESULT')[2])


@pytest.mark.parametrize('case', CASES)
def test_tf_function_gives_what_graph_mode_gives(case, eager_results):
  metrics, gradients = eager_results[case]
  params, compute = pipeline(*case)
  graph_mode = pt.run_step(params, None, compute=compute)
  gradients = {f'net/{name}': g for name, g in gradients.items()}
  result = pt.Result(metrics, gradients)
  if case[0].startswith(('shared', 'second loss')):
    # Products of activations with themselves: the last bits may differ.
    pt.assert_close(result, graph_mode, tolerance=1e-6)
  else:
    pt.assert_identical(result, graph_mode)


@pytest.mark.parametrize('case', CASES)
def test_an_eager_step_traces_once_and_gives_what_a_new_trace_gives(
  case, eager_results
):
  first, second, changed, anew = eager_results['eager'][case]
  assert first[0] > 0 and anew[0] > 0
  if case[0] != 'second loss':  # A metric's own pass is traced each time.
    assert (second[0], changed[0]) == (0, 0)
  for one, other in ((first, second), (changed, anew)):
    assert one[1] == other[1]
    for name, gradient in one[2].items():
      np.testing.assert_array_equal(gradient, other[2][name])
  assert first[1] != changed[1]


def test_nothing_is_kept_of_a_dropped_function(eager_results):
  assert eager_results['kept'] == 0
