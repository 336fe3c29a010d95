# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits that ship with scikit-learn.

1,797 images of 8x8 pixels with 17 grey levels, the test part of the UCI
Machine Learning Repository's "Optical Recognition of Handwritten Digits"
(Alpaydin and Kaynak, 1998), as `sklearn.datasets.load_digits` gives them.
"""

import functools
import math

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils
from sklearn import datasets

from lingvo_gpipe.inputs import image_crops, resident_input

NUM_FOLDS = 5
HEIGHT = WIDTH = 8
_LIMITS = {'max_shift': HEIGHT, 'max_rotation': 180, 'max_zoom': 1}
_SPLIT_SEED = 20181116  # The day GPipe's paper appeared.


@functools.lru_cache(maxsize=1)
def _load():
  digits = datasets.load_digits()
  return digits.images.astype(np.uint8), digits.target.astype(np.int32)


def fold_of_examples(labels):
  """Deals the examples into NUM_FOLDS folds, each class evenly.

  The rule: the examples of each class, in the data set's order, are permuted
  by NumPy's legacy generator RandomState(20181116), class 0 first, and then
  dealt out: the j-th of the permuted examples goes to fold j mod 5. NumPy
  keeps that generator's numbers the same in all versions.
  """
  random = np.random.RandomState(_SPLIT_SEED)
  folds = np.zeros(len(labels), np.int32)
  for label in np.unique(labels):
    members = random.permutation(np.flatnonzero(labels == label))
    folds[members] = np.arange(len(members)) % NUM_FOLDS
  return folds


def load_digits(split, held_out_fold=0):
  """Loads one part of the data set.

  Args:
    split: 'train' (four folds: 1,433 images or so) or 'test' (the fold that is
      held out: 364 or so).
    held_out_fold: Which fold of `fold_of_examples` is held out, 0 to 4.

  Returns:
    A pair: images, uint8 [n, 8, 8] with values 0 to 16, and labels, int32 [n],
    both in the data set's order.

  Raises:
    ValueError: if the split or the fold does not exist.
  """
  if split not in ('train', 'test'):
    raise ValueError(f"split must be 'train' or 'test', got {split!r}.")
  if not 0 <= held_out_fold < NUM_FOLDS:
    raise ValueError(
      f'held_out_fold must lie in 0 to {NUM_FOLDS - 1}, got {held_out_fold}.'
    )
  images, labels = _load()
  held_out = fold_of_examples(labels) == held_out_fold
  chosen = held_out if split == 'test' else ~held_out
  return images[chosen], labels[chosen]


class DigitsInput(resident_input.ResidentInput):
  """Batches of handwritten digits, in an order that a seed determines.

  Their order is as `ResidentInput` says. A batch is a NestedMap of
    image: float32 [batch_size, 8, 8, 1], grey levels scaled to [-1, 1].
    label: int32 [batch_size].
    weight: float32 [batch_size], 1 for an example, 0 for filling.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('held_out_fold', 0, "The fold that makes up 'test', 0 to 4.")
    p.Define(
      'max_shift',
      1.0,
      'Training images are moved by up to this many pixels in each direction.',
    )
    p.Define(
      'max_rotation',
      10.0,
      'Training images are rotated by up to this many degrees.',
    )
    p.Define(
      'max_zoom',
      0.1,
      'Training images are scaled up or down by up to this fraction.',
    )
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    for name, limit in _LIMITS.items():
      if not 0 <= p.Get(name) < limit:
        self.Refuse(name, f'at least 0 and less than {limit}')
    self._images, self._labels = load_digits(p.split, p.held_out_fold)
    self.CheckBatchSize()

  @property
  def num_examples(self):
    return len(self._labels)

  def LoadData(self):
    """Returns all images, uint8 [n, 8, 8], and labels, int32 [n]."""
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

  Pixels between others are interpolated bilinearly; the background, -1, lies
  all around an image.

  Args:
    shift: A float tensor [n, 2]: by how many pixels down and to the right.
    angle: A float tensor [n]: by how many radians, clockwise.
    zoom: A float tensor [n]: factor, above 1 to enlarge.
  """
  height, width = images.shape[1:]
  cos, sin = tf.cos(angle) / zoom, tf.sin(angle) / zoom
  middle = (height - 1) / 2.0, (width - 1) / 2.0
  y, x = middle[0] + shift[:, 0], middle[1] + shift[:, 1]
  return image_crops.project(
    images,
    [cos, sin, middle[1] - cos * x - sin * y],
    [-sin, cos, middle[0] + sin * x - cos * y],
    fill=-1.0,
    interpolation='BILINEAR',
  )
