# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""ImageNet, or any other labelled images of TensorFlow Datasets.

That package takes its time to import, so it is imported where it is needed.
"""

import lingvo.compat as tf
from lingvo.core import py_utils

# Lingvo's name stands for TensorFlow 1's interface, whose `resize` moves the
# image by half a pixel.
from tensorflow import image as tf_image

from lingvo_gpipe.inputs import resident_input

# Mean and standard deviation of ImageNet's colours.
MEAN = (123.675, 116.28, 103.53)
STDDEV = (58.395, 57.12, 57.375)
# Of random parts, width to height.
_RATIOS = 3.0 / 4.0, 4.0 / 3.0


class TfdsImagesInput(resident_input.SplitInput):
  """Batches of photographs, cropped and normalised.

  Training: random parts of the images, half of them mirrored. Batch b is a
  function of `random_seed` and b alone, and the first one is that of the global
  step when it is asked for: a resumed run skips what it has seen of the epoch,
  without decoding it. (With a TPU's infeed b counts from the process's start.)

      epoch e: files, shuffled by (seed, e) --> examples, shuffled in a buffer
      all epochs --> skip what was seen --> decode, in parallel --> batches

  Evaluation: one pass in the data set's order, of central squares.

  A batch is a NestedMap of
    image: float32 [batch_size, image_size, image_size, 3], less ImageNet's
      mean, over its standard deviation.
    label: int32 [batch_size].
    weight: float32 [batch_size], 1 for an example, 0 for filling.
  """

  TEST_SPLIT = 'validation'

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('dataset', 'imagenet2012', 'NAME in TFDS, or NAME/CONFIG:VERSION.')
    p.Define('data_dir', None, '$TFDS_DATA_DIR, or ~/tensorflow_datasets.')
    p.Define('image_size', 224, 'Height and width of the images.')
    p.Define('crop_area', (0.08, 1.0), 'Training: share of the area.')
    p.Define('central_fraction', 0.875, 'Evaluation: share of shorter side.')
    p.Define('shuffle_buffer_size', 16384, 'In encoded images.')
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    for name in ('image_size', 'shuffle_buffer_size'):
      if p.Get(name) < 1:
        self.Refuse(name, 'positive')
    if not 0.0 < p.crop_area[0] <= p.crop_area[1] <= 1.0:
      self.Refuse('crop_area', 'a pair, least and most, above 0, at most 1')
    if not 0.0 < p.central_fraction <= 1.0:
      self.Refuse('central_fraction', 'above 0 and at most 1')
    try:
      self._builder = _builder(p.dataset, p.data_dir)
      self._keys = _image_and_label(self._builder)
      self.num_examples = _num_examples(self._builder, p.split)
    except ValueError as e:
      raise ValueError(f'{p.name}: {e}') from e

  def GetDataset(self):
    training = self.params.training
    examples = self._TrainExamples() if training else self._TestExamples()
    batches = examples.batch(self.InfeedBatchSize(), drop_remainder=True)
    return batches.map(py_utils.NestedMap).prefetch(tf.data.AUTOTUNE)

  def _TrainExamples(self):
    p = self.params

    def epoch(number):
      # All epochs of one seed differ, and so do those of another.
      seed = number + p.random_seed * 1_000_003 + 1
      buffer_size = min(p.shuffle_buffer_size, self.num_examples)
      return self._Encoded(seed).shuffle(buffer_size, seed=seed)

    def from_step(step):
      first = step * self.InfeedBatchSize()
      number = first // self.num_examples
      examples = tf.data.Dataset.counter(number).flat_map(epoch)
      return examples.skip(first % self.num_examples).enumerate(first)

    def decode(position, pair):
      contents, label = pair
      seed = tf.stack([tf.constant(2 * p.random_seed, tf.int64), position])
      image = random_crop(contents, p.image_size, p.crop_area, seed)
      return _example(image, label, 1.0)

    steps = tf.data.Dataset.from_tensors(0).map(self._FirstStep())
    return _in_parallel(steps.flat_map(from_step), decode)

  def _FirstStep(self):
    # Read late: the iterator is made before a checkpoint is read.
    if py_utils.use_tpu():
      return lambda _: tf.constant(0, tf.int64)
    step = py_utils.GetOrCreateGlobalStepVar()
    return lambda _: tf.cast(step.read_value(), tf.int64)

  def _TestExamples(self):
    p = self.params

    def decode(contents, label):
      image = central_crop(contents, p.image_size, p.central_fraction)
      return _example(image, label, 1.0)

    nothing = tf.data.Dataset.from_tensors(0).map(
      lambda _: _example(tf.zeros([p.image_size, p.image_size, 3]), 0, 0.0)
    )
    size = self.InfeedBatchSize()
    examples = _in_parallel(self._Encoded(), decode)
    examples = examples.concatenate(nothing.repeat(size))
    return examples.take(-(-self.num_examples // size) * size)

  def _Encoded(self, seed=None):
    """One epoch of encoded images and classes; no `seed`: files in order."""
    import tensorflow_datasets as tfds

    image, label = self._keys
    read_config = tfds.ReadConfig(
      shuffle_seed=seed,
      try_autocache=False,
      # More would come in any order; there is nothing yet to decode.
      num_parallel_calls_for_decode=1,
    )
    if seed is None:
      read_config.interleave_cycle_length = 1
    examples = self._builder.as_dataset(
      split=self.params.split,
      shuffle_files=seed is not None,
      decoders={image: tfds.decode.SkipDecoding()},
      read_config=read_config,
    )
    return _in_parallel(
      examples, lambda x: (x[image], tf.cast(x[label], tf.int32))
    )


def _in_parallel(dataset, function):
  return dataset.map(
    function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
  )


def _example(image, label, weight):
  mean, stddev = tf.constant(MEAN), tf.constant(STDDEV)
  return {
    'image': (image - mean) / stddev,
    'label': tf.cast(label, tf.int32),
    'weight': tf.constant(weight, tf.float32),
  }


def _builder(name, data_dir):
  import tensorflow_datasets as tfds

  try:
    return tfds.builder(name, data_dir=data_dir, try_gcs=False)
  except tfds.core.DatasetNotFoundError as e:
    raise ValueError(
      f'dataset={name!r} is unknown to TensorFlow Datasets {tfds.__version__} '
      f'and not prepared in data_dir={data_dir!r}. {e}'
    ) from e


def _image_and_label(builder):
  import tensorflow_datasets as tfds

  features = builder.info.features
  keys = builder.info.supervised_keys or ()
  types = tfds.features.Image, tfds.features.ClassLabel
  if len(keys) != 2 or not all(
    map(isinstance, [features[key] for key in keys], types)
  ):
    raise ValueError(
      f'The data set {builder.name!r} is not one of images and classes: its '
      f'supervised keys are {builder.info.supervised_keys} and its features '
      f'{", ".join(features)}.'
    )
  return keys


def _num_examples(builder, split):
  splits = builder.info.splits
  if not splits:
    where = builder.data_path
    manual = ' '.join((builder.MANUAL_DOWNLOAD_INSTRUCTIONS or '').split())
    by_hand = f' Some files must be fetched by hand first: {manual}'
    raise ValueError(
      f'The data set {builder.name!r} is not prepared: {where} does not exist. '
      f'Prepare it by `tfds build {builder.name} '
      f'--data_dir={where.parent.parent}`, or name the directory that has it '
      f'by the Param data_dir.{by_hand if manual else ""}'
    )
  return splits[split].num_examples


def random_crop(contents, size, area, seed):
  """Decodes a part of random area and ratio, mirrored half of the time.

  From Szegedy et al., "Going Deeper with Convolutions", 2014. The whole image
  if no such part is found in ten tries.

  `contents`, a string scalar, is a JPEG, PNG, GIF or BMP file; `area` the least
  and the greatest share of the area; `seed` int64 [2]. The result is float32
  [size, size, 3], 0 to 255.
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
  """Decodes the central square, whose side is a share of the shorter side."""

  def window(shape):
    height, width = shape[0], shape[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(tf.cast(tf.round(fraction * shorter), tf.int32), 1)
    # Half a pixel goes to the bottom and right.
    return (height - side) // 2, (width - side) // 2, side, side

  return _crop(contents, size, window)


def _crop(contents, size, window):
  # Skipping the other parts saves much of the time.
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
