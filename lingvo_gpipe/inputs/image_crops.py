# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Square parts of encoded photographs, decoded and resized."""

import lingvo.compat as tf

# Lingvo's name stands for TensorFlow 1's interface, whose `resize` moves the
# image by half a pixel.
from tensorflow import image as tf_image


def random_crop(contents, size, num_channels, method, *, seed, area, ratio):
  """Decodes a random part of an image, as for training on ImageNet.

  From Szegedy et al., "Going Deeper with Convolutions", 2014: the part's share
  of the area and its ratio of sides are random. Where no such part is found
  in ten tries, it is the whole image.

  Args:
    contents: A string scalar tensor: a JPEG, PNG, GIF or BMP file.
    size: Height and width of the result.
    num_channels: 3 for colours, 1 for grey.
    method: How to resize, as for `tf.image.resize`.
    seed: int64 [2], determines the part and whether it is mirrored.
    area: A pair: least and greatest share of the area.
    ratio: A pair: least and greatest ratio of width to height.

  Returns:
    A float32 tensor [size, size, num_channels], 0 to 255; mirrored left for
    right half of the time.
  """

  def window(shape):
    begin, extent, _ = tf_image.stateless_sample_distorted_bounding_box(
      shape,
      bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
      seed=seed,
      min_object_covered=0.0,
      aspect_ratio_range=ratio,
      area_range=area,
      max_attempts=10,
    )
    return begin[0], begin[1], extent[0], extent[1]

  image = _crop(contents, size, num_channels, method, window)
  mirror = tf.random.stateless_uniform([], seed + tf.constant([1, 0], tf.int64))
  return tf.where_v2(mirror < 0.5, tf.reverse(image, [1]), image)


def central_crop(contents, size, num_channels, method, fraction):
  """Decodes the central square of an image.

  The square's side is `fraction` of the image's shorter side; the other
  arguments and the result are as of `random_crop`.
  """

  def window(shape):
    height, width = shape[0], shape[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(tf.cast(tf.round(fraction * shorter), tf.int32), 1)
    # Half a pixel goes to the bottom and right.
    return (height - side) // 2, (width - side) // 2, side, side

  return _crop(contents, size, num_channels, method, window)


def _crop(contents, size, num_channels, method, window):
  """Decodes the part that `window` finds, given the image's shape; resizes it.

  A JPEG file's other parts are skipped, which saves much of the time.
  """

  def jpeg():
    part = window(tf.io.extract_jpeg_shape(contents))
    return tf.io.decode_and_crop_jpeg(
      contents, tf.stack(part), channels=num_channels
    )

  def other():
    image = tf.io.decode_image(
      contents, channels=num_channels, expand_animations=False
    )
    top, left, height, width = window(tf.shape(image))
    return image[top : top + height, left : left + width]

  image = tf.cond(tf.io.is_jpeg(contents), jpeg, other)
  image.set_shape([None, None, num_channels])
  image = tf_image.resize(image, [size, size], method, antialias=True)
  # Bicubic interpolation overshoots at edges.
  return tf.clip_by_value(tf.cast(image, tf.float32), 0.0, 255.0)


def project(images, source_x, source_y, fill, interpolation):
  """Moves the pixels of images [n, height, width].

  Where a pixel comes from is a function of its own place: its column and row
  are each x, y and 1 times three tensors [n]. Outside of an image is `fill`.
  """
  zeros = tf.zeros_like(source_x[0])
  return tf.raw_ops.ImageProjectiveTransformV3(
    images=images[..., tf.newaxis],
    transforms=tf.stack([*source_x, *source_y, zeros, zeros], axis=1),
    output_shape=images.shape[1:],
    fill_value=fill,
    interpolation=interpolation,
    fill_mode='CONSTANT',
  )[..., 0]
