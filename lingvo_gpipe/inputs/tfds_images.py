# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""ImageNet, or any other labelled images of TensorFlow Datasets."""

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils

from lingvo_gpipe.inputs import image_crops, resident_input, tfds_dataset

_METHODS = ('bilinear', 'bicubic', 'lanczos3', 'area', 'nearest')


class TfdsImagesInput(resident_input.SplitInput):
  """Batches of photographs, cropped and normalised.

  Training: random parts of the images, half of them mirrored. Files are read
  in a new order in each epoch and the examples shuffled in a buffer. With
  `deterministic`, batch b is a function of `random_seed` and b alone, and the
  first batch is that of the global step when it is asked for, so a resumed run
  goes on where it was: it skips the part of the epoch that has been seen,
  without decoding it. (With a TPU's infeed b counts from the start of the
  process.)

      epoch e: files, shuffled by (seed, e) --> examples, shuffled in a buffer
      all epochs --> skip what was seen --> decode, in parallel --> batches

  Evaluation: one pass in the data set's order, of the central square. The last
  batch is filled up with images of weight 0.

  With one infeed a host, each host reads its own part of the examples.

  A batch is a NestedMap of
    image: float32 [batch_size, image_size, image_size, num_channels], less
      `mean`, over `stddev`.
    label: int32 [batch_size].
    weight: float32 [batch_size], 1 for an example, 0 for filling.
  """

  TEST_SPLIT = 'validation'

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define(
      'dataset',
      'imagenet2012',
      'The name in TensorFlow Datasets, with configuration and version if need '
      "be: 'NAME/CONFIG:VERSION'.",
    )
    p.Define(
      'data_dir',
      None,
      'Where the prepared data sets are. None: $TFDS_DATA_DIR or '
      '~/tensorflow_datasets.',
    )
    p.Define('image_size', 224, 'Height and width of the images.')
    p.Define('num_channels', 3, '3 for colours, 1 for grey.')
    p.Define(
      'mean',
      (123.675, 116.28, 103.53),
      "Subtracted from each channel's values, which are 0 to 255. The default "
      'is the mean of ImageNet.',
    )
    p.Define(
      'stddev',
      (58.395, 57.12, 57.375),
      'The values are then divided by it. The default is the standard '
      'deviation of ImageNet.',
    )
    p.Define(
      'crop_area', (0.08, 1.0), 'Training: range of the share of the area.'
    )
    p.Define(
      'crop_ratio',
      (3.0 / 4.0, 4.0 / 3.0),
      'Training: range of the ratio of width to height.',
    )
    p.Define(
      'central_fraction',
      0.875,
      'Evaluation: the side of the square, as a share of the shorter side.',
    )
    p.Define('resize_method', 'bicubic', f'One of {_METHODS}.')
    p.Define(
      'shuffle_buffer_size', 16384, 'How many encoded images are shuffled.'
    )
    p.Define(
      'deterministic',
      True,
      'Training: whether the order is fixed. If not, images come in the order '
      'in which they are ready, and a resumed run does not continue where it '
      'stopped.',
    )
    return p

  def __init__(self, params):
    super().__init__(params)
    self._CheckParams()
    try:
      self._dataset = tfds_dataset.TfdsDataset(
        self.params.dataset, self.params.data_dir
      )
      # Number of images in the split.
      self.num_examples = self._dataset.num_examples(self.params.split)
    except ValueError as e:
      raise ValueError(f'{self.params.name}: {e}') from e

  def GetDataset(self):
    """Returns a tf.data.Dataset of batches."""
    training = self.params.training
    batches = self._TrainBatches() if training else self._TestBatches()
    return batches.map(py_utils.NestedMap).prefetch(tf.data.AUTOTUNE)

  def _HostArgs(self):
    """The arguments that tell `TfdsDataset` which part to read."""
    source = self.datasource
    return {
      'split': self.params.split,
      'host': source.host_id,
      'num_hosts': source.num_hosts,
    }

  def _TrainBatches(self):
    p = self.params
    size = self.InfeedBatchSize()
    host = self._HostArgs()
    num_examples = self._dataset.num_examples(**host)
    buffer_size = max(min(p.shuffle_buffer_size, num_examples), 1)

    def epoch(number):
      seed = None
      if p.deterministic:
        # All epochs of one seed differ, and so do those of another.
        seed = number + p.random_seed * 1_000_003 + 1
      examples = self._dataset.examples(**host, shuffle=True, seed=seed)
      return examples.shuffle(buffer_size, seed=seed)

    def from_step(step):
      first = step * size
      examples = tf.data.Dataset.counter(first // num_examples).flat_map(epoch)
      return examples.skip(first % num_examples).enumerate(first)

    steps = tf.data.Dataset.from_tensors(0).map(self._FirstStep())
    examples = steps.flat_map(from_step).map(
      self._TrainExample(host['host']),
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=p.deterministic,
    )
    return examples.batch(size, drop_remainder=True)

  def _FirstStep(self):
    """Returns a function that returns the number of the first batch.

    It runs when the first batch is asked for; the iterator itself is made
    before a checkpoint is read.
    """
    if py_utils.use_tpu() or not self.params.deterministic:
      return lambda _: tf.constant(0, tf.int64)
    step = py_utils.GetOrCreateGlobalStepVar()
    return lambda _: tf.cast(step.read_value(), tf.int64)

  def _TrainExample(self, host):
    p = self.params

    def example(position, pair):
      contents, label = pair
      image = image_crops.random_crop(
        contents,
        p.image_size,
        p.num_channels,
        p.resize_method,
        # No two hosts' images are cropped alike.
        seed=tf.stack(
          [tf.constant(2 * (p.random_seed + (host << 32)), tf.int64), position]
        ),
        area=p.crop_area,
        ratio=p.crop_ratio,
      )
      return self._Example(image, label, 1.0)

    return example

  def _TestBatches(self):
    p = self.params
    size = self.InfeedBatchSize()
    host = self._HostArgs()

    def example(contents, label):
      image = image_crops.central_crop(
        contents,
        p.image_size,
        p.num_channels,
        p.resize_method,
        p.central_fraction,
      )
      return self._Example(image, label, 1.0)

    examples = self._dataset.examples(**host).map(
      example, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    )
    # All hosts have as many batches as the one with most examples.
    most = -(-self.num_examples // host['num_hosts'])
    num_batches = -(-most // size)
    shape = [p.image_size, p.image_size, p.num_channels]
    nothing = tf.data.Dataset.from_tensors(0).map(
      lambda _: self._Example(tf.zeros(shape), 0, 0.0)
    )
    examples = examples.concatenate(nothing.repeat())
    return examples.take(num_batches * size).batch(size, drop_remainder=True)

  def _Example(self, image, label, weight):
    mean, stddev = (
      tf.constant(x, tf.float32) for x in (self.params.mean, self.params.stddev)
    )
    return {
      'image': (image - mean) / stddev,
      'label': tf.cast(label, tf.int32),
      'weight': tf.constant(weight, tf.float32),
    }

  def _CheckParams(self):
    p = self.params
    for name in ('image_size', 'shuffle_buffer_size'):
      if p.Get(name) < 1:
        self.Refuse(name, 'positive')
    if p.num_channels not in (1, 3):
      self.Refuse('num_channels', '1 or 3')
    for name in ('mean', 'stddev'):
      if np.shape(p.Get(name)) != (p.num_channels,):
        self.Refuse(name, f'{p.num_channels} number(s), one for each channel')
    if min(p.stddev) <= 0:
      self.Refuse('stddev', 'positive')
    for name, limit in (('crop_area', 1.0), ('crop_ratio', np.inf)):
      least, most = p.Get(name)
      if not 0.0 < least <= most <= limit:
        self.Refuse(
          name, f'a pair, least and most, above 0 and at most {limit}'
        )
    if not 0.0 < p.central_fraction <= 1.0:
      self.Refuse('central_fraction', 'above 0 and at most 1')
    if p.resize_method not in _METHODS:
      self.Refuse('resize_method', f'one of {_METHODS}')
