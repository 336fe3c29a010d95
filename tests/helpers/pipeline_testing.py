# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Four layers with convolutions, dropout and an int tensor; and ways to run."""

import contextlib
import dataclasses
import itertools

import declared
import lingvo.compat as tf
import numpy as np
from lingvo.core import cluster_factory, layers, py_utils

from lingvo_gpipe import pipelining_layer

NUM_LAYERS = 4
BATCH = 8
_SIZE, _CHANNELS, _CLASSES = 6, 4, 5


class ConvLayer(declared.Layer):
  PARAMS = {
    'keep_prob': 1.0,
    'dropout_tpl': layers.DeterministicDropoutLayer.Params(),
  }

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    conv = layers.Conv2DLayerNoPadding.Params().Set(
      filter_shape=(3, 3, _CHANNELS, _CHANNELS),
      filter_stride=(1, 1),
      params_init=py_utils.WeightInit.Gaussian(0.2),
    )
    self.CreateChild('conv', conv)
    self.CreateVariable(
      'scale', py_utils.WeightParams([4], py_utils.WeightInit.Constant(1.0))
    )
    self.CreateChild('dropout', p.dropout_tpl.Copy().Set(keep_prob=p.keep_prob))

  def FProp(self, theta, image, mean, ids):
    hidden = tf.nn.relu(self.conv.FProp(theta.conv, image))
    hidden = self.dropout.FProp(theta.dropout, hidden)
    scale = tf.gather(theta.scale, ids % 4)[:, None, None, None]
    image += scale * hidden
    return image, mean + tf.reduce_mean(hidden, axis=[1, 2]), ids + 1


class Loss(declared.Layer):
  WEIGHTS = {'w': [_CHANNELS, _CLASSES]}

  def FProp(self, theta, outputs, targets):
    image, mean, _ = outputs
    features = tf.reduce_mean(image, axis=[1, 2]) + mean
    logits = tf.matmul(features, theta.w)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
      labels=targets.labels, logits=logits
    )
    weight = tf.reduce_sum(targets.weights)
    hits = tf.cast(tf.equal(tf.argmax(logits, -1), targets.labels), tf.float32)
    return {
      'loss': (tf.reduce_sum(losses * targets.weights) / weight, weight),
      'accuracy': (
        tf.reduce_mean(hits),
        tf.cast(tf.shape(hits)[0], tf.float32),
      ),
    }


def layer_params(keep_prob=1.0, num_layers=NUM_LAYERS):
  return [
    ConvLayer.Params().Set(name=f'l{i}', keep_prob=keep_prob)
    for i in range(num_layers)
  ]


def cells(subs, cut):
  """Params of so many even cells, or of those that begin with these layers."""
  if isinstance(cut, int):
    cut = [round(k * len(subs) / cut) for k in range(1, cut)]
  bounds = itertools.pairwise([0, *cut, len(subs)])
  return [
    pipelining_layer.FeatureExtractionLayer.Params().Set(
      name=f'd{k}', sub=subs[start:end]
    )
    for k, (start, end) in enumerate(bounds)
  ]


def pipeline_params(num_cells, num_micro_batches=4, keep_prob=0.8, **kwargs):
  kwargs.setdefault('loss_tpl', Loss.Params().Set(name='loss'))
  return pipelining_layer.PipeliningLayer.Params().Set(
    name='net',
    cell_tpl=cells(layer_params(keep_prob), num_cells),
    num_micro_batches=num_micro_batches,
    **kwargs,
  )


class Data:
  """A mini-batch, whose tensors are in the graph where they are asked for."""

  def __init__(self, batch=BATCH):
    rng = np.random.RandomState(0)
    image = rng.randn(batch, _SIZE, _SIZE, _CHANNELS).astype(np.float32)
    mean = rng.randn(batch, _CHANNELS).astype(np.float32)
    self._inputs = image, mean, np.arange(batch, dtype=np.int32)
    self._targets = py_utils.NestedMap(
      labels=rng.randint(_CLASSES, size=batch).astype(np.int64),
      weights=rng.choice([0.5, 1.0, 2.0], size=batch).astype(np.float32),
    )

  @property
  def inputs(self):
    return tuple(map(tf.constant, self._inputs))

  @property
  def targets(self):
    return self._targets.Transform(tf.constant)


data = Data


def cluster(num_devices, **kwargs):
  kwargs = {'mode': 'sync', 'job': 'trainer_client', **kwargs}
  return cluster_factory.ForTestingWorker(
    cpus=num_devices, split_size=num_devices, **kwargs
  )


@contextlib.contextmanager
def graph(num_devices, **kwargs):
  with cluster(num_devices, **kwargs), tf.Graph().as_default() as new:
    tf.random.set_seed(7)
    py_utils.GetOrCreateGlobalStepVar()
    yield new


def session(num_devices, graph=None, **kwargs):
  """A session with CPU devices, TensorFlow's graph optimisations on."""
  devices = {'CPU': num_devices}
  config = tf.compat.v1.ConfigProto(device_count=devices, **kwargs)
  return tf.compat.v1.Session(graph=graph, config=config)


def run(build, *, num_devices=1, step=3, config=None, **cluster):
  """Builds and runs a graph: `build` returns a nest of tensors, ops or None.

  `config` is set in the session's ConfigProto.
  """
  with graph(num_devices, **cluster) as new:
    fetches = build()
    flat = tf.nest.flatten(fetches, expand_composites=False)
    with session(num_devices, new, **(config or {})) as sess:
      sess.run(tf.global_variables_initializer())
      sess.run(tf.assign(py_utils.GetGlobalStep(), step))
      values = iter(sess.run([f for f in flat if f is not None]))
  flat = [None if f is None else next(values) for f in flat]
  return tf.nest.pack_sequence_as(fetches, flat)


@dataclasses.dataclass
class Result:
  metrics: dict
  gradients: dict


def run_step(params, examples=None, *, compute=None, **kwargs):
  def loss(layer):
    return layer.ComputeLoss(layer.theta, examples.inputs, examples.targets)

  compute = compute or loss
  return run_steps(params, lambda layer: [compute(layer)], **kwargs)[0]


def run_steps(
  params, compute, *, step=3, num_devices=None, do_eval=None, **config
):
  """Runs what a function computes with a layer; a `Result` for each."""

  def build():
    return [
      (dict(metrics), {} if do_eval else _gradients(metrics['loss'][0]))
      for metrics in compute(params.Instantiate())
    ]

  num_devices = num_devices or len(params.cell_tpl)
  how = {'step': step, 'config': config, 'do_eval': do_eval}
  found = run(build, num_devices=num_devices, **how)
  return [Result(*one) for one in found]


def _gradients(loss):
  variables = tf.trainable_variables()
  gradients = tf.gradients(loss, variables, colocate_gradients_with_ops=True)
  return dict(zip([v.name for v in variables], gradients, strict=True))


def sent(graph, num_devices, fetches):
  """Tensors that a step sends between devices, as (from, to, elements)."""
  metadata = tf.tf1.RunMetadata()
  options = tf.tf1.RunOptions(output_partition_graphs=True)
  with session(num_devices, graph) as sess:
    sess.run(tf.global_variables_initializer())
    sess.run(fetches, options=options, run_metadata=metadata)
  # TensorFlow says only the ops' names; shapes are those before optimisation.
  ops = {op.name: op for op in graph.get_operations()}
  result = []
  for partition in metadata.partition_graphs:
    for node in partition.node:
      if node.op in ('_Send', '_HostSend'):
        # 'edge_7_NAME'.
        name = node.attr['tensor_name'].s.decode().split('_', 2)[2]
        outputs = ops[name].outputs if name in ops else []
        sizes = [t.shape.num_elements() or 1 for t in outputs]
        ends = [
          tf.DeviceSpec.from_string(node.attr[f'{end}_device'].s.decode())
          for end in ('send', 'recv')
        ]
        result.append((*ends, max(sizes, default=1)))
  return result


def dense(gradient):
  if not hasattr(gradient, 'indices'):
    return gradient
  full = np.zeros(gradient.dense_shape, gradient.values.dtype)
  np.add.at(full, gradient.indices, gradient.values)
  return full


def difference(a, b):
  """How the bits of two values, or None, differ, NaNs aside; '' if not."""
  if type(a) is not type(b):
    return f'{type(a).__name__} and {type(b).__name__}'
  if a is None:
    return ''
  if hasattr(a, 'indices'):
    return difference(a.indices, b.indices) + difference(a.values, b.values)
  a, b = np.asarray(a), np.asarray(b)
  if (a.dtype, a.shape) != (b.dtype, b.shape):
    return f'{a.dtype}{a.shape} and {b.dtype}{b.shape}'
  bits = np.dtype(f'u{a.dtype.itemsize}')
  differs = (a.view(bits) != b.view(bits)) & ~((a != a) & (b != b))
  if not differs.any():
    return ''
  x, y = a[differs].astype(np.float64), b[differs].astype(np.float64)
  return (
    f'{differs.sum()} of {a.size} numbers, by up to '
    f'{np.max(np.abs(x - y)):.2g}: {a[differs][0]!r} and {b[differs][0]!r}'
  )


def assert_identical(a, b):
  np.testing.assert_equal(a.metrics, b.metrics)
  assert a.gradients.keys() == b.gradients.keys()
  for name, gradient in a.gradients.items():
    text = difference(dense(gradient), dense(b.gradients[name]))
    assert not text, f'{name}: {text}'


def assert_close(a, b, tolerance=1e-5):
  """Asserts agreement relative to each gradient's norm, and to each metric."""
  for name in {'loss', *a.metrics.keys() & b.metrics.keys()}:
    np.testing.assert_allclose(
      a.metrics[name], b.metrics[name], rtol=tolerance, err_msg=name
    )
  assert a.gradients.keys() == b.gradients.keys()
  for name, gradient in a.gradients.items():
    if gradient is None:
      assert b.gradients[name] is None, name
      continue
    x, y = dense(gradient), dense(b.gradients[name])
    error = np.linalg.norm(x - y) / (np.linalg.norm(y) or 1)
    assert error <= tolerance, (name, error)
