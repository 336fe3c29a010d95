# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Numbers, dtypes and structures cross boundaries untouched."""

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from lingvo.core import base_layer, py_utils


def _is_float(x):
  return x is not None and x.dtype.is_floating


class Scale(base_layer.BaseLayer):
  """Multiplies float tensors by a weight; leaves all others alone."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'w', py_utils.WeightParams([], py_utils.WeightInit.Constant(2.0))
    )

  def FProp(self, theta, *args):
    def scale(x):
      return x * tf.cast(theta.w, x.dtype) if _is_float(x) else x

    outputs = tf.nest.map_structure(scale, args)
    return outputs[0] if len(outputs) == 1 else outputs


def _run(args, **kwargs):
  subs = [Scale.Params().Set(name=f'l{i}') for i in range(4)]

  def build():
    layer = tiny_pipeline.pipeline(subs, **kwargs).Instantiate()
    inputs = tf.nest.map_structure(
      lambda x: None if x is None else tf.constant(x), args
    )
    outputs = layer.FPropDefaultTheta(*inputs)
    sources, results = (
      [t for t in tf.nest.flatten(nest) if _is_float(t)]
      for nest in (inputs, outputs)
    )
    return outputs, tf.gradients(results, layer.vars.Flatten() + sources)

  return tiny_pipeline.run(build, num_devices=2)


@pytest.mark.parametrize('poison', [np.inf, -np.inf, np.nan])
def test_inf_and_nan_stay_in_their_micro_batch(poison):
  x = np.arange(32, dtype=np.float32).reshape(8, 4)
  x[3, 1] = poison
  outputs, _ = _run((x,))
  np.testing.assert_array_equal(outputs, x * 16)
  assert np.isfinite(np.delete(outputs, 3, axis=0)).all()


def test_every_dtype_keeps_itself_across_boundaries():
  ints = np.arange(8)[:, None]
  args = (
    ints.astype(np.float32),
    ints.astype(tf.bfloat16.as_numpy_dtype),
    ints.astype(np.float64),
    (ints + 2**40).astype(np.int64),
    ints.astype(np.int32),
    ints.astype(np.uint8),
    ints % 2 == 0,
    np.array([[str(i)] for i in range(8)], object),
  )
  outputs, _ = _run(args)
  for given, got in zip(args, outputs, strict=True):
    assert got.dtype == given.dtype
    expected = given
    if given.dtype.kind in 'fV':
      expected = given * np.asarray(16, given.dtype)
    if given.dtype == object:
      expected = np.vectorize(str.encode, otypes=[object])(given)
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
  'nest',
  [
    lambda x, y: (py_utils.NestedMap(a=x, b=None, c=py_utils.NestedMap(d=y)),),
    lambda x, y: (x, None, y),
    lambda x, y: ([x, (y, None)], x),
    lambda x, y: (x,),
  ],
  ids=['NestedMap', 'with None', 'list of tuples', 'single tensor'],
)
def test_nested_structures_come_out_as_they_go_in(nest):
  x = np.arange(8, dtype=np.float32)[:, None]
  args = nest(x, 2 * x)
  is_map = isinstance(args[0], py_utils.NestedMap)
  outputs, gradients = _run(args, nested_map_fprop=is_map)
  expected = args[0] if len(args) == 1 else args
  tf.nest.assert_same_structure(outputs, expected)
  for got, given in zip(
    tf.nest.flatten(outputs), tf.nest.flatten(expected), strict=True
  ):
    if given is None:
      assert got is None
    else:
      np.testing.assert_array_equal(got, 16 * given)
  assert all(np.all(g > 0) for g in gradients)


@pytest.mark.parametrize('batch_dim', [0, 1, 2])
def test_any_batch_dim(batch_dim):
  x = np.moveaxis(
    np.arange(7 * 6, dtype=np.float32).reshape(7, 2, 3), 0, batch_dim
  )
  outputs, _ = _run((x,), batch_dim=batch_dim)
  np.testing.assert_array_equal(outputs, 16 * x)


def test_zero_size_dimensions_pass():
  outputs, _ = _run((np.zeros([8, 0, 3], np.float32),))
  assert outputs.shape == (8, 0, 3)


def test_micro_batch_size_alone_decides_the_number():
  x = np.arange(10, dtype=np.float32)[:, None]
  outputs, _ = _run((x,), num_micro_batches=1, micro_batch_size=4)
  np.testing.assert_array_equal(outputs, 16 * x)
