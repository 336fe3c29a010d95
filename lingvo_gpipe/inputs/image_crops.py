# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Square parts of encoded photographs, decoded and resized."""

import lingvo.compat as tf

# Lingvo's name stands for TensorFlow 1's interface, whose `resize` moves the
# image by half a pixel.
from tensorflow import image as tf_image

_RATIOS = 3.0 / 4.0, 4.0 / 3.0


def random_crop(contents, size, area, seed):
  """Decodes a random part of an image, as for training on ImageNet.

  From Szegedy et al., "Going Deeper with Convolutions", 2014: the part's share
  of the area and its ratio of sides are random. Where no such part is found
  in ten tries, it is the whole image.

  Args:
    contents: A string scalar tensor: a JPEG, PNG, GIF or BMP file.
    size: Height and width of the result.
    area: A pair: least and greatest share of the area.
    seed: int64 [2], determines the part and whether it is mirrored.

  Returns:
    A float32 tensor [size, size, 3], 0 to 255; mirrored left for right half of
    the time.
  """

  def window(shape):
    begin, extent, _ = tf_image.stateless_sample_distorted_bounding_box(
      shape,
      bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
      seed=seed,
      min_object_covered=0.0,
      aspect_ratio_range=_RATIOS,
      area_range=area,
      max_attempts=10,
    )
    return begin[0], begin[1], extent[0], extent[1]

  image = _crop(contents, size, window)
  mirror = tf.random.stateless_uniform([], seed + tf.constant([1, 0], tf.int64))
  return tf.where_v2(mirror < 0.5, tf.reverse(image, [1]), image)


def central_crop(contents, size, fraction):
  """Decodes the central square of an image; other results as `random_crop`'s.

  Args:
    fraction: The square's side, as a share of the image's shorter side.
  """

  def window(shape):
    height, width = shape[0], shape[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(tf.cast(tf.round(fraction * shorter), tf.int32), 1)
    # Half a pixel goes to the bottom and right.
    return (height - side) // 2, (width - side) // 2, side, side

  return _crop(contents, size, window)


def _crop(contents, size, window):
  """Decodes the part that `window` finds, given the image's shape; resizes it.

  A JPEG file's other parts are skipped, which saves much of the time.
  """

  def jpeg():
    part = window(tf.io.extract_jpeg_shape(contents))
    return tf.io.decode_and_crop_jpeg(contents, tf.stack(part), channels=3)

  def other():
    image = tf.io.decode_image(contents, channels=3, expand_animations=False)
    top, left, height, width = window(tf.shape(image))
    return image[top : top + height, left : left + width]

  image = tf.cond(tf.io.is_jpeg(contents), jpeg, other)
  image.set_shape([None, None, 3])
  image = tf_image.resize(image, [size, size], 'bicubic', antialias=True)
  # Bicubic interpolation overshoots at edges.
  return tf.clip_by_value(tf.cast(image, tf.float32), 0.0, 255.0)
