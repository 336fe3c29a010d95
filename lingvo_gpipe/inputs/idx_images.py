# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""MNIST, Fashion-MNIST, EMNIST: images with labels in IDX files."""

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils

from lingvo_gpipe.inputs import idx_format, resident_input

# Where Debian's package dataset-fashion-mnist puts them.
DEFAULT_DIRECTORY = '/usr/share/datasets/fashion-mnist'
_HOW_TO_GET = (
  'Fashion-MNIST: on Debian and Ubuntu `apt install dataset-fashion-mnist` '
  f'puts it in {DEFAULT_DIRECTORY}; elsewhere download the four files '
  '{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz, of it or of MNIST, and '
  'name their directory by the Param `directory`.'
)

# From black to white. A division in the graph might be rewritten there, and
# its last bit would depend on where it runs.
_GREYS = np.linspace(-1.0, 1.0, 256, dtype=np.float32)


class IdxImagesInput(resident_input.ResidentInput):
  """Batches of grey images and their classes.

  Their order is as `ResidentInput` says. A batch is a NestedMap of
    image: float32 [batch_size, height, width, 1], from -1, black, to 1.
    label: int32 [batch_size].
    weight: float32 [batch_size], 1 for an example, 0 for filling.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define(
      'directory',
      DEFAULT_DIRECTORY,
      'The directory with the files {prefix}-images-idx3-ubyte and '
      '{prefix}-labels-idx1-ubyte, plain or as .gz.',
    )
    p.Define('train_prefix', 'train', "The prefix of the split 'train'.")
    p.Define('test_prefix', 't10k', "The prefix of the split 'test'.")
    p.Define(
      'transpose',
      False,
      'Swaps rows and columns; EMNIST stores its images that way.',
    )
    p.Define(
      'max_shift',
      0,
      'Training images are moved by up to this many pixels in each direction; '
      'black comes in.',
    )
    p.Define(
      'flip', False, 'Half of the training images are mirrored left to right.'
    )
    p.batch_size = 128
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    prefix = p.train_prefix if p.split == 'train' else p.test_prefix
    try:
      self._file, self._labels = _Load(p.directory, prefix)
    except ValueError as e:
      raise ValueError(f'{p.name}: {e} {_HOW_TO_GET}') from e
    limit = min(self._file.shape[1:])
    if not 0 <= p.max_shift < limit or p.max_shift != int(p.max_shift):
      raise ValueError(
        f'{p.name}: max_shift must be a whole number of pixels, at least 0 '
        f'and less than {limit}, got {p.max_shift}.'
      )
    self.CheckBatchSize()

  @property
  def num_examples(self):
    """Number of images in the split."""
    return self._file.shape[0]

  @property
  def num_classes(self):
    """The split's largest label, plus 1."""
    return int(self._labels.max()) + 1

  def LoadData(self):
    """Returns all images, uint8 [n, height, width], and labels, [n]."""
    contents = tf.io.read_file(self._file.path)
    if self._file.compressed:
      contents = tf.io.decode_compressed(contents, 'GZIP')
    values = tf.io.decode_raw(contents, tf.uint8)[self._file.header_size :]
    return py_utils.NestedMap(
      images=tf.reshape(values, self._file.shape),
      labels=tf.constant(self._labels),
    )

  def MakeBatch(self, data, index, present, number):
    """Returns the images `index` and their labels, see the class."""
    p = self.params
    images = tf.gather(data.images, index)
    if p.transpose:
      images = tf.transpose(images, [0, 2, 1])
    if p.training and (p.max_shift or p.flip):
      size = index.shape[0]
      random = tf.random.stateless_uniform(
        [size, 3], seed=tf.stack([tf.constant(p.random_seed, tf.int64), number])
      )
      steps = 2 * p.max_shift + 1
      shift = tf.cast(tf.floor(random[:, :2] * steps), tf.int32) - p.max_shift
      mirror = tf.logical_and(random[:, 2] < 0.5, p.flip)
      images = shift_and_mirror(images, shift, mirror)
    return py_utils.NestedMap(
      image=tf.gather(_GREYS, tf.cast(images, tf.int32))[..., tf.newaxis],
      label=tf.cast(tf.gather(data.labels, index), tf.int32),
      weight=tf.cast(present, tf.float32),
    )


def shift_and_mirror(images, shift, mirror):
  """Mirrors images left for right, then moves them.

  Args:
    images: A tensor [n, height, width].
    shift: int32 [n, 2]: by how many pixels down and to the right.
    mirror: bool [n]: whether to mirror.

  Returns:
    A tensor like `images`; zeros come in from outside.
  """
  height, width = images.shape[1:]
  # A margin of zeros around an image stands for all that is outside.
  padded = tf.pad(images, [[0, 0], [1, 1], [1, 1]])
  rows = tf.range(1, height + 1) - shift[:, :1]
  columns = tf.range(1, width + 1) - shift[:, 1:]
  columns = tf.where_v2(mirror[:, tf.newaxis], width + 1 - columns, columns)
  rows = tf.clip_by_value(rows, 0, height + 1)[:, :, tf.newaxis]
  columns = tf.clip_by_value(columns, 0, width + 1)[:, tf.newaxis, :]
  flat = tf.reshape(padded, [-1, (height + 2) * (width + 2)])
  return tf.gather(flat, rows * (width + 2) + columns, axis=1, batch_dims=1)


def _Load(directory, prefix):
  """Returns the checked file of images, and the labels, uint8 [n]."""
  images = idx_format.check(
    idx_format.find(directory, f'{prefix}-images-idx3-ubyte'), 3
  )
  labels = idx_format.check(
    idx_format.find(directory, f'{prefix}-labels-idx1-ubyte'), 1
  )
  if images.shape[0] != labels.shape[0]:
    raise ValueError(
      f'{images.path} has {images.shape[0]} images, but {labels.path} has '
      f'{labels.shape[0]} labels: they do not belong together.'
    )
  if 0 in images.shape:
    raise ValueError(
      f'{images.path} has no images: its shape is {images.shape}.'
    )
  return images, np.array(idx_format.read(labels))
