# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Labelled images of TensorFlow Datasets, still encoded.

The package takes its time to import, so it is imported where it is needed.
"""

import difflib

import lingvo.compat as tf


class TfdsDataset:
  """A prepared data set of images and classes."""

  def __init__(self, name, data_dir):
    """Finds a data set; whether its data are there shows in `num_examples`.

    Args:
      name: Such as 'imagenet2012', with configuration and version if need be:
        'NAME/CONFIG:VERSION'.
      data_dir: Where prepared data sets lie; None for the package's own place.

    Raises:
      ValueError: if there is no such data set, or it has no images with
        classes.
    """
    self.name = name
    self._builder = _Builder(name, data_dir)
    self._keys = _ImageAndLabel(self._builder)

  def num_examples(self, split, host=0, num_hosts=1):
    """Returns the number of examples that a host gets.

    Raises:
      ValueError: if the data set has not been prepared, or lacks the split.
    """
    splits = self._builder.info.splits
    if not splits:
      raise ValueError(_HowToGet(self._builder))
    try:
      number = splits[_Part(split, host, num_hosts)].num_examples
    except ValueError as e:
      raise ValueError(
        f'The data set {self.name!r} has no split {split!r}. It has: '
        f'{", ".join(splits)}.'
      ) from e
    if not number:
      raise ValueError(
        f'The data set {self.name!r} has no examples in the split {split!r} '
        f'for input host {host} of {num_hosts}.'
      )
    return number

  def examples(self, split, host=0, num_hosts=1, shuffle=False, seed=None):
    """Reads the examples once.

    Args:
      split: A split of the data set, or a part: 'train', 'train[:1%]'.
      seed: An int64 scalar tensor, determines the order of the files. None:
        any order.

    Returns:
      A tf.data.Dataset of pairs: an encoded image, a string scalar, and its
      class, an int32 scalar.
    """
    import tensorflow_datasets as tfds

    image, label = self._keys
    read_config = tfds.ReadConfig(
      shuffle_seed=seed,
      try_autocache=False,
      # More would come in any order; there is nothing yet to decode.
      num_parallel_calls_for_decode=1,
    )
    if not shuffle:
      # One file after the other.
      read_config.interleave_cycle_length = 1
    examples = self._builder.as_dataset(
      split=_Part(split, host, num_hosts),
      shuffle_files=shuffle,
      decoders={image: tfds.decode.SkipDecoding()},
      read_config=read_config,
    )
    return examples.map(
      lambda x: (x[image], tf.cast(x[label], tf.int32)),
      num_parallel_calls=tf.data.AUTOTUNE,
      deterministic=True,
    )


def _Part(split, host, num_hosts):
  """The part of a split that one of the input hosts reads."""
  import tensorflow_datasets as tfds

  if num_hosts == 1:
    return split
  return tfds.even_splits(split, n=num_hosts, drop_remainder=False)[host]


def _Builder(name, data_dir):
  import tensorflow_datasets as tfds

  try:
    return tfds.builder(name, data_dir=data_dir, try_gcs=False)
  except tfds.core.DatasetNotFoundError as e:
    known = tfds.list_builders(with_community_datasets=False)
    near = difflib.get_close_matches(name.split('/')[0].split(':')[0], known)
    hint = f' Nearest: {", ".join(near)}.' if near else ''
    raise ValueError(
      f'dataset={name!r} is unknown to TensorFlow Datasets {tfds.__version__} '
      f'and not prepared in data_dir={data_dir!r}.{hint}'
    ) from e


def _ImageAndLabel(builder):
  """The names of the features that are an image and its class."""
  import tensorflow_datasets as tfds

  features = builder.info.features
  keys = builder.info.supervised_keys or ()
  types = (tfds.features.Image, tfds.features.ClassLabel)
  if len(keys) != 2 or not all(
    isinstance(features[key], kind)
    for key, kind in zip(keys, types, strict=True)
  ):
    raise ValueError(
      f'The data set {builder.name!r} is not one of images and classes: its '
      f'supervised keys are {builder.info.supervised_keys} and its features '
      f'{", ".join(features)}.'
    )
  return keys


def _HowToGet(builder):
  where = builder.data_path
  root = where.parent.parent
  manual = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
  by_hand = (
    f' Some files must be fetched by hand first: {" ".join(manual.split())}'
    if manual
    else ''
  )
  return (
    f'The data set {builder.name!r} is not prepared: {where} does not exist. '
    f'Prepare it by `tfds build {builder.name} --data_dir={root}`, '
    f'or name the directory that has it by the Param data_dir.{by_hand}'
  )
