# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the handwritten digits."""

import hashlib

import input_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe.inputs import digits

_AS_THEY_ARE = {'max_shift': 0.0, 'max_rotation': 0.0, 'max_zoom': 0.0}


def _train(steps, **params):
  return input_testing.batches(
    digits.DigitsInput.TrainParams().Set(**params), steps
  )


def test_split_is_what_it_always_was():
  """Images held out by the rule, so that results can be compared."""
  images, labels = digits.load_digits('test')
  assert images.shape == (364, 8, 8)
  assert images.dtype == np.uint8
  assert np.bincount(labels).tolist() == [
    36, 37, 36, 37, 37, 37, 37, 36, 35, 36,
  ]  # fmt: skip
  assert hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest() == (
    'b74f258a84167732c7878ab75f731102b7aad0464102598d280a84e86aaea67a'
  )


def test_folds_divide_the_data_set_with_even_classes():
  everything = np.concatenate(
    [digits.load_digits('test', fold)[0] for fold in range(5)]
  )
  assert len(everything) == 1797
  for fold in range(5):
    train, train_labels = digits.load_digits('train', fold)
    test, test_labels = digits.load_digits('test', fold)
    assert len(train) + len(test) == 1797
    counts = np.bincount(test_labels) / np.bincount(train_labels)
    assert 0.23 < counts.min() < counts.max() < 0.28
    # Two images of the data set may look alike; few do.
    seen = {x.tobytes() for x in train}
    assert sum(x.tobytes() in seen for x in test) < 3


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [(('dev',), "got 'dev'"), (('test', 5), '0 to 4, got 5')],
)
def test_unknown_parts_are_refused(arguments, message):
  with pytest.raises(ValueError, match=message):
    digits.load_digits(*arguments)


def test_a_batch_depends_on_seed_and_step_alone():
  first = _train([0, 1, 2, 100])
  assert all(map(input_testing.same, first, _train([0, 1, 2, 100])))
  # A run that starts again at step 100 sees what it would have seen.
  assert input_testing.same(first[3], _train([100])[0])
  assert not input_testing.same(first[0], first[1])
  assert not input_testing.same(first[0], _train([0], random_seed=1)[0])


def test_an_epoch_shows_every_image_once_and_each_in_its_order():
  num_examples = len(digits.load_digits('train')[1])
  size = 50
  steps = range(2 * num_examples // size)
  batches = _train(steps, batch_size=size, **_AS_THEY_ARE)
  images = np.concatenate([b.image for b in batches])
  want = np.sort([x.tobytes() for x in digits.load_digits('train')[0]])
  epochs = []
  for first in (0, num_examples):
    part = images[first : first + num_examples]
    part = np.round((part[..., 0] + 1.0) * 8.0).astype(np.uint8)
    epochs.append([x.tobytes() for x in part])
    if len(part) == num_examples:
      assert (np.sort(epochs[-1]) == want).all()
  overlap = [a == b for a, b in zip(*epochs, strict=False)]
  assert np.mean(overlap) < 0.01
  counts = [np.bincount(b.label, minlength=10) for b in batches]
  # Chi-squared of nine degrees of freedom, averaged over 57 batches.
  assert 7.0 < np.mean((np.array(counts) - 5.0) ** 2 / 5.0) * 10 < 11.0


def test_labels_belong_to_their_images():
  known = dict(
    zip(
      (x.tobytes() for x in digits.load_digits('train')[0]),
      digits.load_digits('train')[1],
      strict=True,
    )
  )
  [batch] = _train([3], **_AS_THEY_ARE)
  images = np.round((batch.image[..., 0] + 1.0) * 8.0).astype(np.uint8)
  assert [known[x.tobytes()] for x in images] == batch.label.tolist()


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


def test_no_change_leaves_images_as_they_are():
  np.testing.assert_array_equal(_transform(_drawings()), _drawings())


@pytest.mark.parametrize('down', [-2, 0, 1])
@pytest.mark.parametrize('right', [-1, 0, 3])
def test_whole_shifts_move_pixels_and_fill_with_background(down, right):
  padded = np.pad(_drawings(), [(0, 0), (3, 3), (3, 3)], constant_values=-1.0)
  want = padded[:, 3 - down : 11 - down, 3 - right : 11 - right]
  moved = _transform(_drawings(), (down, right))
  np.testing.assert_allclose(moved, want, 1e-6, 1e-6)


@pytest.mark.parametrize('quarters', [1, 2, -1])
def test_turns_clockwise_about_the_centre(quarters):
  want = np.rot90(_drawings(), -quarters, axes=(1, 2))
  turned = _transform(_drawings(), degrees=90 * quarters)
  np.testing.assert_allclose(turned, want, 1e-4, 1e-4)


def test_half_a_pixel_is_the_mean_of_two():
  images = _drawings()
  moved = _transform(images, (0.0, 0.5))
  np.testing.assert_allclose(
    moved[:, :, 1:], (images[:, :, 1:] + images[:, :, :-1]) / 2, 1e-5, 1e-6
  )
  np.testing.assert_allclose(moved[:, :, 0], (images[:, :, 0] - 1.0) / 2, 1e-5)


def test_zoom_enlarges_about_the_centre():
  # The corner pixels come from 1.75 pixels off the centre.
  ramp = np.broadcast_to(np.linspace(-1.0, 1.0, 8, dtype=np.float32), [1, 8, 8])
  np.testing.assert_allclose(_transform(ramp, zoom=2.0), ramp / 2, 1e-5, 1e-6)


def test_training_images_differ_from_the_originals_by_what_the_params_say():
  defaults = digits.DigitsInput.Params()
  [plain] = _train([7], **_AS_THEY_ARE)
  for name in _AS_THEY_ARE:
    [changed] = _train([7], **{**_AS_THEY_ARE, name: defaults.Get(name)})
    assert (plain.label == changed.label).all()
    distance = np.abs(plain.image - changed.image).mean((1, 2, 3))
    assert 0.0 < distance.min() < distance.max() < 0.8
    assert distance.std() > 0.01


def test_evaluation_shows_each_held_out_image_once_in_order():
  batches = input_testing.batches(
    digits.DigitsInput.TestParams().Set(batch_size=100)
  )
  assert [b.image.shape for b in batches] == [(100, 8, 8, 1)] * 4
  weight = np.concatenate([b.weight for b in batches])
  assert weight.tolist() == [1.0] * 364 + [0.0] * 36
  images = np.concatenate([b.image for b in batches])[:364, ..., 0]
  labels = np.concatenate([b.label for b in batches])[:364]
  want_images, want_labels = digits.load_digits('test')
  np.testing.assert_array_equal(images, want_images / 8.0 - 1.0)
  np.testing.assert_array_equal(labels, want_labels)


def test_evaluation_can_be_repeated():
  with tf.Graph().as_default(), tf.Session() as session:
    generator = digits.DigitsInput.TestParams().Instantiate()
    batch = generator.GetPreprocessedInputBatch()
    generator.Initialize(session)
    first = session.run(batch)
    second = session.run(batch)
    generator.Reset(session)
    assert input_testing.same(session.run(batch), first)
    assert not input_testing.same(first, second)


def test_dataset_gives_the_batches_of_the_steps():
  """What a TPU's infeed reads is what other devices compute."""
  params = digits.DigitsInput.TrainParams()
  from_dataset = input_testing.from_dataset(params, 3)
  for got, want in zip(from_dataset, _train(range(3)), strict=True):
    np.testing.assert_array_equal(got.label, want.label)
    np.testing.assert_array_equal(got.weight, want.weight)
    np.testing.assert_allclose(got.image, want.image, 1e-5, 1e-5)


def test_shapes_are_static_and_the_batch_grows_with_the_splits():
  cluster = cluster_factory.Current().params.Copy()
  cluster.job = 'trainer_client'
  cluster.mode = 'sync'
  cluster.worker.replicas = 2
  with tf.Graph().as_default(), cluster.Instantiate():
    py_utils.GetOrCreateGlobalStepVar()
    generator = digits.DigitsInput.TrainParams().Set(batch_size=16)
    batch = generator.Instantiate().GetPreprocessedInputBatch()
  assert batch.image.shape == (32, 8, 8, 1)
  assert batch.label.shape == batch.weight.shape == (32,)


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    ({'batch_size': 0}, 'batch_size.*got 0'),
    ({'max_shift': 8.0}, 'max_shift.*less than 8, got 8.0'),
    ({'max_rotation': -1.0}, 'max_rotation.*at least 0.*got -1.0'),
    ({'max_zoom': 1.0}, 'max_zoom.*less than 1, got 1.0'),
    ({'split': 'valid'}, "'train' or 'test', got 'valid'"),
  ],
)
def test_impossible_params_are_refused(params, message):
  with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
    digits.DigitsInput.TrainParams().Set(**params).Instantiate()
