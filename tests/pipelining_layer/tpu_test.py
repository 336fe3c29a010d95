# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where ops are placed in a graph for TPU cores; no TPU is needed for that."""

import collections
import functools
import re
import types

import lingvo.compat as tf
import pytest
from absl import flags
from example_model import inside
from example_models import MODELS
from lingvo.core import cluster_factory, py_utils

NUM_CORES = 4


def _tpu_cluster():
  """A split of NUM_CORES TPU cores, as Lingvo's TPU executor has it."""
  params = cluster_factory.Cluster.Params()
  params.mode = 'sync'
  params.job = 'executor_tpu'
  params.enable_asserts = False
  params.enable_check_numerics = False
  params.worker.replicas = 1
  params.worker.tpus_per_replica = NUM_CORES
  params.worker.devices_per_split = NUM_CORES
  return params.Instantiate()


@pytest.fixture
def tpu_flag():
  before = flags.FLAGS.xla_device
  flags.FLAGS.xla_device = 'tpu'
  yield
  flags.FLAGS.xla_device = before


def _outside(layer, batch):
  image, mean, _ = layer.FProp(layer.theta, *batch.inputs)
  # What is outside of the pipeline is for the user to place.
  with tf.device(layer.cell_devices[-1]):
    return {'loss': (tf.reduce_mean(image) + tf.reduce_mean(mean), 1.0)}


CASES = [
  ('convolutions', inside, 'always'),
  ('convolutions', inside, 'never'),
  ('convolutions', _outside, 'always'),
  ('skips', inside, 'always'),
  ('tied weights', inside, 'always'),
]


@functools.cache
def _build(name, compute, recompute):
  """A step for TPU cores, gradients colocated as Lingvo's learner has it.

  Its graph, the operations of the step, and, by the variables' names, the
  gradients and the devices.
  """
  model = MODELS[name]
  params = model.pipeline(
    NUM_CORES if name == 'convolutions' else model.cuts[-1],
    num_micro_batches=2,
    schedule='1f1b' if compute is inside else 'gpipe',
    recompute=recompute,
  )
  with _tpu_cluster(), tf.Graph().as_default() as graph:
    py_utils.GetOrCreateGlobalStepVar()
    layer = params.Instantiate()
    variables = tf.trainable_variables()
    devices = {v.name: v.device for v in variables}
    result = types.SimpleNamespace(
      graph=graph, devices=devices, case=(name, compute, recompute)
    )

    def step():
      batch = model.batch()
      start = len(graph.get_operations())
      loss = compute(layer, batch)['loss'][0]
      gradients = tf.gradients(
        loss, variables, colocate_gradients_with_ops=True
      )
      result.operations = graph.get_operations()[start:]
      result.gradients = dict(
        zip([v.name for v in variables], gradients, strict=True)
      )
      return [
        tf.convert_to_tensor(t) for t in (loss, *gradients) if t is not None
      ]

    tf.tpu.rewrite(step)
  return result


def _core(device):
  found = re.fullmatch(r'/device:TPU_REPLICATED_CORE:(\d+)', device)
  assert found or not device, device
  return int(found.group(1)) if found else None


def _calls(step):
  """(cell, core, name of the function) for each call of a cell's function."""
  calls = []
  for op in step.graph.get_operations():
    if op.type in ('PartitionedCall', 'StatefulPartitionedCall'):
      function = op.get_attr('f').name
      cell = re.match(r'(?:__inference_)?d(\d+)_', function)
      if cell:
        calls.append((int(cell.group(1)), _core(op.device), function))
  return calls


@pytest.fixture(params=CASES)
def step(request, tpu_flag):
  return _build(*request.param)


def test_each_call_of_a_cell_is_on_its_core(step):
  name, compute, recompute = step.case
  calls = _calls(step)
  count = collections.Counter(cell for cell, _, _ in calls)
  # A forward and a backward task for each of two micro-batches; a backward task
  # that recomputes is two calls. Under 1F1B the last cell does not.
  expected = dict.fromkeys(range(NUM_CORES), 4 if recompute == 'never' else 6)
  if compute is inside:
    expected[NUM_CORES - 1] = 4
  if name == 'tied weights':
    expected[0] = 4  # Of a lookup nothing has to be recomputed.
  assert count == expected
  for cell, core, function in calls:
    assert core == cell, function


def test_each_op_inside_a_cell_is_on_its_core(step):
  functions = {
    f.signature.name: f for f in step.graph.as_graph_def().library.function
  }
  for cell, _, name in _calls(step):
    pending, seen = [name], set()
    while pending:
      definition = functions[pending.pop()]
      for node in definition.node_def:
        if node.op == 'Identity':  # TensorFlow's own, of what is returned.
          continue
        assert _core(node.device) == cell, (name, node.name, node.op)
        inner = node.attr['f'].func.name if 'f' in node.attr else ''
        if inner and inner not in seen:
          seen.add(inner)
          pending.append(inner)


def test_weights_their_reads_and_gradients_are_on_one_core(step):
  name, _, _ = step.case
  for variable, device in step.devices.items():
    layer = re.match(r'net/l(\d)/', variable)
    if name == 'convolutions':
      # Four layers on four cores; the loss is on the last.
      assert _core(device) == (int(layer[1]) if layer else NUM_CORES - 1)
    gradient = step.gradients[variable]
    parts = [gradient]
    if isinstance(gradient, tf.IndexedSlices):
      parts = [gradient.values, gradient.indices]
    for part in filter(lambda part: part is not None, parts):
      assert part.op.device == device, variable
  reads = [op for op in step.operations if op.type == 'ReadVariableOp']
  for op in reads:
    handle = op.inputs[0].op
    if 'global_step' not in handle.name:
      assert op.device == handle.device, op.name
  if name == 'tied weights':
    # The owner's, and one for all users.
    assert len([op for op in reads if 'embed' in op.inputs[0].op.name]) == 2


def test_no_op_of_the_pipeline_is_without_a_core(step):
  loose = [
    (op.name, op.type) for op in step.operations if _core(op.device) is None
  ]
  assert not loose
