# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Where ops are placed in a graph for TPU cores; no TPU is needed for that."""

import collections
import dataclasses
import functools
import re

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tied_model
import unet
from absl import flags
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


def _loss_outside(layer, image, mean, ids, *unused_targets):
  image, mean, _ = layer.FProp(layer.theta, image, mean, ids)
  # What is outside of the pipeline is for the user to place.
  with tf.device(layer.cell_devices[-1]):
    return tf.reduce_mean(image) + tf.reduce_mean(mean)


def _loss_inside(layer, image, mean, ids, labels, weights):
  targets = py_utils.NestedMap(labels=labels, weights=weights)
  return layer.ComputeLoss(layer.theta, (image, mean, ids), targets).loss[0]


@dataclasses.dataclass
class _Step:
  """A training step in a graph.

  Attributes:
    graph: The graph.
    forward: The ops of forward pass and loss.
    backward: The ops of the gradients.
    gradients: The gradient of each variable, by name.
    devices: The device of each variable, by name.
  """

  graph: tf.Graph
  forward: list
  backward: list
  gradients: dict
  devices: dict


@functools.cache
def _build(inside, recompute='always', num_micro_batches=2):
  """A step for TPU cores, gradients colocated as Lingvo's learner has it."""
  params = pt.pipeline_params(
    NUM_CORES,
    num_micro_batches,
    schedule='1f1b' if inside else 'gpipe',
    recompute=recompute,
  )
  if not inside:
    params.loss_tpl = None
  examples = pt.data()
  with _tpu_cluster(), tf.Graph().as_default() as graph:
    py_utils.GetOrCreateGlobalStepVar()
    layer = params.Instantiate()
    variables = tf.trainable_variables()
    found = {}

    def step(*inputs):
      start = len(graph.get_operations())
      loss = (_loss_inside if inside else _loss_outside)(layer, *inputs)
      middle = len(graph.get_operations())
      gradients = tf.gradients(
        loss, variables, colocate_gradients_with_ops=True
      )
      operations = graph.get_operations()
      found['forward'] = operations[start:middle]
      found['backward'] = operations[middle:]
      found['gradients'] = dict(
        zip([v.name for v in variables], gradients, strict=True)
      )
      return [loss, *map(tf.convert_to_tensor, gradients)]

    tf.tpu.rewrite(
      step,
      [*examples.inputs, examples.targets.labels, examples.targets.weights],
    )
  devices = {v.name: v.device for v in variables}
  return _Step(graph, devices=devices, **found)


def _core(device):
  """The number of the TPU core, None for no device."""
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


CASES = [(True, 'always'), (True, 'never'), (False, 'always')]
cases = pytest.mark.parametrize('inside, recompute', CASES)


@cases
def test_each_call_of_a_cell_is_on_its_core(inside, recompute, tpu_flag):
  calls = _calls(_build(inside, recompute))
  count = collections.Counter(cell for cell, _, _ in calls)
  # A forward and a backward task for each of two micro-batches; a backward task
  # that recomputes is two calls. Under 1F1B the last cell does not.
  expected = dict.fromkeys(range(NUM_CORES), 4 if recompute == 'never' else 6)
  if inside:
    expected[NUM_CORES - 1] = 4
  assert count == expected
  for cell, core, function in calls:
    assert core == cell, function


@cases
def test_each_op_inside_a_cell_is_on_its_core(inside, recompute, tpu_flag):
  step = _build(inside, recompute)
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


@cases
def test_weights_their_reads_and_gradients_are_on_one_core(
  inside, recompute, tpu_flag
):
  step = _build(inside, recompute)
  assert len(step.devices) == (9 if inside else 8)
  for name, device in step.devices.items():
    layer = re.match(r'net/l(\d)/', name)
    # Four layers on four cores; the loss is on the last.
    core = int(layer.group(1)) if layer else NUM_CORES - 1
    assert _core(device) == core, name
    gradient = step.gradients[name]
    parts = [gradient]
    if isinstance(gradient, tf.IndexedSlices):
      parts = [gradient.values, gradient.indices]
    for part in parts:
      assert _core(part.op.device) == core, name
  for op in step.forward + step.backward:
    if op.type == 'ReadVariableOp':
      handle = op.inputs[0].op
      if 'global_step' not in handle.name:
        assert op.device == handle.device, op.name


@cases
def test_no_op_of_the_pipeline_is_without_a_core(inside, recompute, tpu_flag):
  step = _build(inside, recompute)
  loose = [
    (op.name, op.type)
    for op in step.forward + step.backward
    if _core(op.device) is None
  ]
  assert not loose


def _named_values_step(model, layer, variables):
  """The loss and gradients of a model with skips or with tied weights."""
  compute = unet.compute_loss if model == 'unet' else tied_model.compute_loss
  loss = compute(layer).loss[0]
  return [
    loss,
    *tf.gradients(loss, variables, colocate_gradients_with_ops=True),
  ]


@pytest.mark.parametrize('model', ['unet', 'tied'])
def test_skips_side_inputs_and_tied_weights_have_cores(model, tpu_flag):
  if model == 'unet':
    params = unet.pipeline(unet.layers(), unet.CUTS[4], schedule='1f1b')
  else:
    params = tied_model.pipeline((1, 2, 4), schedule='1f1b')
  with _tpu_cluster(), tf.Graph().as_default() as graph:
    py_utils.GetOrCreateGlobalStepVar()
    layer = params.Instantiate()
    variables = tf.trainable_variables()
    found = []

    def step():
      start = len(graph.get_operations())
      results = _named_values_step(model, layer, variables)
      found.extend(graph.get_operations()[start:])
      return [tf.convert_to_tensor(t) for t in results]

    tf.tpu.rewrite(step)
    # The test's own inputs are without a core.
    loose = {op.type for op in found if _core(op.device) is None}
    assert loose <= {'Const', 'ZerosLike'}
    reads = [op for op in found if op.type == 'ReadVariableOp']
    for op in reads:
      handle = op.inputs[0].op
      if 'global_step' not in handle.name:
        assert op.device == handle.device, op.name
    if model == 'tied':
      table = [op for op in reads if 'embed' in op.inputs[0].op.name]
      # The owner's, and one for all users.
      assert len(table) == 2
