# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""MNIST, Fashion-MNIST: images with labels in IDX files.

    offset 0   0, 0
           2   type of a value; 8 is uint8, the only one here
           3   number of dimensions d
           4   d sizes, big-endian uint32
    4 + 4 d    the values, last dimension fastest

The whole file may be compressed by gzip. The format is that of "The MNIST
database of handwritten digits" (LeCun, Cortes and Burges).
"""

import gzip
import math
import os
import struct
import zlib

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils

from lingvo_gpipe.inputs import resident_input

# Where Debian's package dataset-fashion-mnist puts them.
DEFAULT_DIRECTORY = '/usr/share/datasets/fashion-mnist'
_HOW_TO_GET = (
  'Fashion-MNIST: on Debian and Ubuntu `apt install dataset-fashion-mnist` '
  f'puts it in {DEFAULT_DIRECTORY}; elsewhere download the four files '
  '{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz, of it or of MNIST, and '
  'name their directory by the Param `directory`.'
)

# The last bit of a division in the graph would depend on where it runs.
_GREYS = np.linspace(-1.0, 1.0, 256, dtype=np.float32)


class IdxImagesInput(resident_input.ResidentInput):
  """Batches of grey images and their classes.

  A batch is a NestedMap of
    image: float32 [batch_size, height, width, 1], from -1, black, to 1.
    label: int32 [batch_size].
    weight: float32 [batch_size], 1 for an example, 0 for filling.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('directory', DEFAULT_DIRECTORY, 'Of the files, plain or as .gz.')
    p.Define('flip', False, 'Mirror half of the training images.')
    p.batch_size = 128
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    prefix = 'train' if p.split == 'train' else 't10k'
    try:
      self._path, self._shape, self._labels = _load(p.directory, prefix)
    except ValueError as e:
      raise ValueError(f'{p.name}: {e} {_HOW_TO_GET}') from e
    self.CheckBatchSize()

  @property
  def num_examples(self):
    return self._shape[0]

  def LoadData(self):
    contents = tf.io.read_file(self._path)
    if _is_compressed(self._path):
      contents = tf.io.decode_compressed(contents, 'GZIP')
    values = tf.io.decode_raw(contents, tf.uint8)
    values = values[_header_size(len(self._shape)) :]
    return py_utils.NestedMap(
      images=tf.reshape(values, self._shape), labels=tf.constant(self._labels)
    )

  def MakeBatch(self, data, index, present, number):
    p = self.params
    images = tf.gather(data.images, index)
    if p.training and p.flip:
      # The third of three numbers an image, as in the published results.
      seed = tf.stack([tf.constant(p.random_seed, tf.int64), number])
      random = tf.random.stateless_uniform([index.shape[0], 3], seed)[:, 2]
      mirror = (random < 0.5)[:, tf.newaxis, tf.newaxis]
      images = tf.where_v2(mirror, tf.reverse(images, [2]), images)
    return py_utils.NestedMap(
      image=tf.gather(_GREYS, tf.cast(images, tf.int32))[..., tf.newaxis],
      label=tf.cast(tf.gather(data.labels, index), tf.int32),
      weight=tf.cast(present, tf.float32),
    )


def _load(directory, prefix):
  path = _find(directory, f'{prefix}-images-idx3-ubyte')
  shape = read_idx(path, 3).shape
  labels_path = _find(directory, f'{prefix}-labels-idx1-ubyte')
  labels = read_idx(labels_path, 1)
  if shape[0] != len(labels):
    raise ValueError(
      f'{path} has {shape[0]} images, but {labels_path} has {len(labels)} '
      'labels: they do not belong together.'
    )
  return path, shape, labels


def _find(directory, name):
  directory = os.path.expanduser(directory)
  for candidate in (name, f'{name}.gz'):
    path = os.path.join(directory, candidate)
    if os.path.isfile(path):
      return path
  state = 'exists' if os.path.isdir(directory) else 'does not exist'
  raise ValueError(
    f'There is no file {name} or {name}.gz in {directory}, which {state}.'
  )


def read_idx(path, num_dimensions):
  """Reads an IDX file, compressed or not; ValueError if it is damaged."""
  try:
    with (gzip.open if _is_compressed(path) else open)(path, 'rb') as f:
      data = f.read()
  except (EOFError, OSError, zlib.error) as e:
    raise ValueError(
      f'{path} is damaged or cut short: its gzip data end in an error ({e}). '
      'Download the file again.'
    ) from e
  expected = bytes([0, 0, 8, num_dimensions])
  if data[:4] != expected:
    raise ValueError(
      f'{path} is not an IDX file of unsigned bytes with {num_dimensions} '
      f'dimension(s): it begins with {data[:4].hex(" ") or "nothing"} where '
      f'{expected.hex(" ")} is expected.'
    )
  header_size = _header_size(num_dimensions)
  header = data[4:header_size].ljust(4 * num_dimensions, b'\0')
  shape = struct.unpack(f'>{num_dimensions}I', header)
  stated = header_size + math.prod(shape)
  if len(data) != stated:
    what = 'is cut short' if len(data) < stated else 'has bytes too many'
    raise ValueError(
      f'{path} {what}: {len(data)} bytes where its header tells of '
      f'{header_size} + {" x ".join(map(str, shape))} = {stated}. Download the '
      'file again.'
    )
  return np.frombuffer(data, np.uint8, offset=header_size).reshape(shape)


def _is_compressed(path):
  with open(path, 'rb') as f:
    return f.read(2) == b'\x1f\x8b'


def _header_size(num_dimensions):
  return 4 + 4 * num_dimensions
