# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.inputs import image_crops

_HEIGHT, _WIDTH = 120, 200


def _picture():
  """Red grows to the right and green downwards, one a pixel."""
  picture = np.zeros([_HEIGHT, _WIDTH, 3], np.uint8)
  picture[..., 0] = np.arange(_WIDTH)
  picture[..., 1] = np.arange(_HEIGHT)[:, np.newaxis]
  picture[..., 2] = 77
  return picture


def _encode(kind, picture):
  if kind == 'jpeg':
    return tf.io.encode_jpeg(
      picture, quality=100, chroma_downsampling=False, optimize_size=True
    )
  return tf.io.encode_png(picture)


def _random(kind, n, seed=0):
  def crop(contents, number):
    return image_crops.random_crop(
      contents, 32, (0.08, 1.0), tf.stack([seed, number])
    )

  with tf.Graph().as_default(), tf.Session() as session:
    contents = _encode(kind, _picture())
    numbers = tf.range(n, dtype=tf.int64)
    seed = tf.constant(seed, tf.int64)
    return session.run(
      tf.map_fn(lambda i: crop(contents, i), numbers, dtype=tf.float32)
    )


def _windows(images):
  """Width, height and mirroring of the parts, from their colours."""
  # From the middle of the first to that of the last of `size` pixels.
  size = images.shape[1]
  red = images[:, :, -2, 0].mean(1) - images[:, :, 1, 0].mean(1)
  green = images[:, -2, :, 1].mean(1) - images[:, 1, :, 1].mean(1)
  scale = size / (size - 3)
  return np.abs(red) * scale, green * scale, red < 0


def test_random_parts_have_the_areas_and_ratios_asked_for():
  images = _random('png', 200)
  assert images.shape == (200, 32, 32, 3)
  width, height, mirrored = _windows(images)
  share = width * height / (_HEIGHT * _WIDTH)
  assert 0.07 < share.min() < 0.13
  # With a ratio of 4/3 at most, the full height is at most 0.8 of the picture.
  assert 0.6 < share.max() < 0.82
  ratio = width / height
  assert 0.7 < ratio.min() < 0.8
  assert 1.25 < ratio.max() < 1.4
  assert 70 < mirrored.sum() < 130
  # They are all over the picture.
  middle = images.mean((1, 2))
  assert middle[:, 0].min() < 50
  assert middle[:, 0].max() > 150
  np.testing.assert_allclose(middle[:, 2], 77, atol=0.1)


def test_a_part_depends_on_the_seed_alone():
  first, again = _random('png', 3), _random('png', 2)
  np.testing.assert_array_equal(first[:2], again)
  assert not np.array_equal(first[0], first[1])
  assert not np.array_equal(first[0], _random('png', 1, seed=1)[0])


def test_formats_are_cropped_alike():
  # JPEG's colours are rounded.
  np.testing.assert_allclose(_random('png', 5), _random('jpeg', 5), atol=5)


def _central(kind, fraction, size=60, picture=None):
  with tf.Graph().as_default(), tf.Session() as session:
    contents = _encode(kind, _picture() if picture is None else picture)
    return session.run(image_crops.central_crop(contents, size, fraction))


@pytest.mark.parametrize('kind', ['png', 'jpeg'])
def test_the_central_square_is_that_share_of_the_shorter_side(kind):
  # A square of 60 pixels is not resized.
  image = _central(kind, 0.5)
  want = _picture()[30:90, 70:130]
  np.testing.assert_allclose(image, want, atol=0 if kind == 'png' else 5)


def test_the_square_is_resized():
  image = _central('png', 1.0, size=30)
  # Four pixels in each direction, and their mean.
  want = _picture()[:, 40:160].reshape([30, 4, 30, 4, 3]).mean((1, 3))
  # But for the border, where there is less to interpolate from.
  inner = np.s_[1:-1, 1:-1]
  np.testing.assert_allclose(image[inner], want[inner], atol=0.1)


def test_colours_stay_in_range():
  picture = np.zeros([16, 16, 3], np.uint8)
  picture[4:12] = 255
  image = _central('png', 1.0, 61, picture=picture)
  assert image.min() == 0
  assert image.max() == 255


def test_grey_images_get_colours():
  picture = np.full([10, 10, 1], 100, np.uint8)
  image = _central('png', 0.8, 8, picture)
  np.testing.assert_allclose(image, np.full([8, 8, 3], 100.0), atol=1)
