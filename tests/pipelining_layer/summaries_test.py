# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Summaries that layers in cells add come out once, with the right values."""

import contextlib

import lingvo.compat as tf
import numpy as np
import pytest
import tiny_pipeline
from example_model import inside, outside, plain
from example_models import layers_of, linear_batch
from lingvo.core import summary_utils


class Summarise(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    name = self.params.name
    summary_utils.scalar(f'{name}/mean', tf.reduce_mean(x))
    summary_utils.scalar(f'{name}/size', tf.shape(x)[1])
    summary_utils.scalar(f'{name}/constant', 5.0)
    summary_utils.histogram(f'{name}/values', x)
    image = tf.cast(x[:, :, None, None] > 0, tf.uint8) * 255
    summary_utils.image(f'{name}/image', image, max_outputs=1)
    return super().FProp(theta, x)


class SameName(tiny_pipeline.Linear):
  def FProp(self, theta, x):
    summary_utils.scalar('mean', tf.reduce_mean(x))
    return super().FProp(theta, x)


def _summaries(compute, cls=Summarise, add_summary=True):
  def build():
    layer = tiny_pipeline.with_loss(layers_of(cls)).Instantiate()
    loss = compute(layer, linear_batch())['loss'][0]
    return (
      tf.get_collection(tf.GraphKeys.SUMMARIES),
      tf.gradients(loss, layer.vars.Flatten()),
    )

  serialised, _ = tiny_pipeline.run(
    build, num_devices=2, add_summary=add_summary
  )
  values = [v for s in serialised for v in tf.Summary.FromString(s).value]
  tags = [v.tag for v in values]
  assert len(set(tags)) == len(tags)
  return dict(zip(tags, values, strict=True))


@pytest.mark.parametrize('compute', [inside, outside])
def test_as_in_the_unpipelined_model(compute):
  got, expected = _summaries(compute), _summaries(plain)
  assert got.keys() == expected.keys()
  assert len(expected) == 10
  for tag, value in expected.items():
    kind = value.WhichOneof('value')
    if kind == 'simple_value':
      assert got[tag].simple_value == pytest.approx(value.simple_value)
    elif kind == 'histo':
      assert got[tag].histo.num == value.histo.num
      np.testing.assert_allclose(got[tag].histo.sum, value.histo.sum, rtol=1e-5)
      np.testing.assert_array_equal(got[tag].histo.bucket, value.histo.bucket)
    else:
      assert kind == 'image'
      # The first example is in the first micro-batch.
      assert got[tag].image == value.image


def test_layers_of_different_cells_keep_theirs_apart():
  got = _summaries(inside, SameName)
  expected = _summaries(plain, SameName)
  # The tags differ by what else is in a graph; these two are the same layers'.
  assert len(got) == 2
  assert sorted(v.simple_value for v in got.values()) == pytest.approx(
    sorted(v.simple_value for v in expected.values())
  )


def test_tags_get_the_scope_around_and_a_number_if_taken():
  def build():
    for name, scope in (('x', ''), ('y', ''), ('z', 'tower')):
      params = tiny_pipeline.pipeline(layers_of(SameName, 1), 1)
      layer = params.Set(name=name).Instantiate()
      with tf.name_scope(scope) if scope else contextlib.nullcontext():
        layer.FPropDefaultTheta(linear_batch().inputs)
    return tf.get_collection(tf.GraphKeys.SUMMARIES)

  serialised = tiny_pipeline.run(build, add_summary=True)
  values = [v for s in serialised for v in tf.Summary.FromString(s).value]
  plain, numbered, scoped = (v.tag for v in values)
  assert numbered == f'{plain}_1'
  assert scoped == f'tower/{plain}'


def test_none_if_the_cluster_wants_none():
  assert not _summaries(inside, add_summary=False)
