# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits that ship with scikit-learn.

1,797 images of 8x8 pixels with 17 grey levels, the test part of "Optical
Recognition of Handwritten Digits" (Alpaydin and Kaynak, UCI, 1998).
"""

import functools
import math

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils
from sklearn import datasets

from lingvo_gpipe.inputs import resident_input

_SPLIT_SEED = 20181116  # The day GPipe's paper appeared.


@functools.cache
def load_digits(split):
  """Loads images, uint8 [n, 8, 8] from 0 to 16, and labels, int32 [n].

  The examples of each class are permuted by RandomState(20181116), which gives
  the same numbers in all versions of NumPy, class 0 first, and the first and
  each fifth after it are held out: 364 to test and 1,433 to train on.
  """
  digits = datasets.load_digits()
  images, labels = digits.images.astype(np.uint8), np.int32(digits.target)
  random = np.random.RandomState(_SPLIT_SEED)
  chosen = np.full(len(labels), split == 'train')
  for label in np.unique(labels):
    members = random.permutation(np.flatnonzero(labels == label))
    chosen[members[::5]] = split == 'test'
  return images[chosen], labels[chosen]


class DigitsInput(resident_input.ResidentInput):
  """Batches of handwritten digits.

  A batch is a NestedMap of
    image: float32 [batch_size, 8, 8, 1], grey levels scaled to [-1, 1].
    label: int32 [batch_size].
    weight: float32 [batch_size], 1 for an example, 0 for filling.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('max_shift', 1.0, 'Training: move by up to so many pixels.')
    p.Define('max_rotation', 10.0, 'Training: rotate by up to so many degrees.')
    p.Define('max_zoom', 0.1, 'Training: scale by up to this share.')
    return p

  def __init__(self, params):
    super().__init__(params)
    self._images, self._labels = load_digits(self.params.split)
    self.CheckBatchSize()

  @property
  def num_examples(self):
    return len(self._labels)

  def LoadData(self):
    return py_utils.NestedMap(
      images=tf.constant(self._images), labels=tf.constant(self._labels)
    )

  def MakeBatch(self, data, index, present, number):
    p = self.params
    images = tf.cast(tf.gather(data.images, index), tf.float32) / 8.0 - 1.0
    if p.training and (p.max_shift or p.max_rotation or p.max_zoom):
      random = tf.random.stateless_uniform(
        [index.shape[0], 4],
        seed=tf.stack([tf.constant(p.random_seed, tf.int64), number]),
        minval=-1.0,
        maxval=1.0,
      )
      images = transform(
        images,
        shift=random[:, :2] * p.max_shift,
        angle=random[:, 2] * (p.max_rotation * math.pi / 180.0),
        zoom=1.0 + random[:, 3] * p.max_zoom,
      )
    return py_utils.NestedMap(
      image=images[..., tf.newaxis],
      label=tf.gather(data.labels, index),
      weight=tf.cast(present, tf.float32),
    )


def transform(images, shift, angle, zoom):
  """Moves, turns and zooms images about their centres.

  Shifts, [n, 2], are pixels down and right; angles, [n], clockwise radians;
  zooms, [n], enlarge above 1. Interpolates bilinearly; around is -1.
  """
  height, width = images.shape[1:]
  cos, sin = tf.cos(angle) / zoom, tf.sin(angle) / zoom
  middle = (height - 1) / 2.0, (width - 1) / 2.0
  y, x = middle[0] + shift[:, 0], middle[1] + shift[:, 1]
  zeros = tf.zeros_like(cos)
  # The column and the row that a pixel comes from, as functions of its own.
  column = [cos, sin, middle[1] - cos * x - sin * y]
  row = [-sin, cos, middle[0] + sin * x - cos * y]
  return tf.raw_ops.ImageProjectiveTransformV3(
    images=images[..., tf.newaxis],
    transforms=tf.stack([*column, *row, zeros, zeros], axis=1),
    output_shape=images.shape[1:],
    fill_value=-1.0,
    interpolation='BILINEAR',
    fill_mode='CONSTANT',
  )[..., 0]
