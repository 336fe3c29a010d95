# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import hashlib

import input_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.inputs import digits

_AS_THEY_ARE = {'max_shift': 0.0, 'max_rotation': 0.0, 'max_zoom': 0.0}


def _train(**params):
  params = digits.DigitsInput.TrainParams().Set(**params)
  (batch,) = input_testing.batches(params, [7])
  return batch


def test_split_is_what_it_always_was():
  """Images held out by the rule, so that results can be compared."""
  images, labels = digits.load_digits('test')
  assert images.shape == (364, 8, 8)
  assert images.dtype == np.uint8
  assert len(digits.load_digits('train')[0]) == 1797 - 364
  assert np.bincount(labels).tolist() == [
    36, 37, 36, 37, 37, 37, 37, 36, 35, 36,
  ]  # fmt: skip
  assert hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() == (
    'b74f258a84167732c7878ab75f731102b7aad0464102598d280a84e86aaea67a'
  )


def _transform(images, shift=(0.0, 0.0), degrees=0.0, zoom=1.0):
  with tf.Graph().as_default(), tf.Session() as session:
    n = len(images)
    return session.run(
      digits.transform(
        tf.constant(images, tf.float32),
        shift=tf.constant([shift] * n, tf.float32),
        angle=tf.fill([n], np.float32(np.radians(degrees))),
        zoom=tf.fill([n], np.float32(zoom)),
      )
    )


def _drawings():
  return np.random.RandomState(8).uniform(-1, 1, [3, 8, 8]).astype(np.float32)


@pytest.mark.parametrize(('down', 'right'), [(0, 0), (-2, 3), (1, -1), (0, 3)])
def test_whole_shifts_move_pixels_and_fill_with_background(down, right):
  padded = np.pad(_drawings(), [(0, 0), (3, 3), (3, 3)], constant_values=-1.0)
  want = padded[:, 3 - down : 11 - down, 3 - right : 11 - right]
  moved = _transform(_drawings(), (down, right))
  np.testing.assert_allclose(moved, want, 1e-6, 1e-6)
  if not (down or right):
    np.testing.assert_array_equal(moved, want)


def test_turns_clockwise_and_enlarges_about_the_centre():
  for quarters in (1, 2, -1):
    want = np.rot90(_drawings(), -quarters, axes=(1, 2))
    turned = _transform(_drawings(), degrees=90 * quarters)
    np.testing.assert_allclose(turned, want, 1e-4, 1e-4)
  # The corner pixels come from 1.75 pixels off the centre.
  ramp = np.broadcast_to(np.linspace(-1.0, 1.0, 8, dtype=np.float32), [1, 8, 8])
  np.testing.assert_allclose(_transform(ramp, zoom=2.0), ramp / 2, 1e-5, 1e-6)


def test_training_images_differ_from_the_originals_by_what_the_params_say():
  defaults = digits.DigitsInput.Params()
  plain = _train(**_AS_THEY_ARE)
  for name in _AS_THEY_ARE:
    changed = _train(**{**_AS_THEY_ARE, name: defaults.Get(name)})
    assert (plain.label == changed.label).all()
    distance = np.abs(plain.image - changed.image).mean((1, 2, 3))
    assert 0.0 < distance.min() < distance.max() < 0.8
    assert distance.std() > 0.01


def test_evaluation_shows_the_held_out_images_in_order():
  params = digits.DigitsInput.TestParams().Set(batch_size=364)
  (batch,) = input_testing.batches(params)
  images, labels = digits.load_digits('test')
  np.testing.assert_array_equal(batch.image[..., 0], images / 8.0 - 1.0)
  np.testing.assert_array_equal(batch.label, labels)
  assert batch.weight.tolist() == [1.0] * 364
