# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches cut out of data that fit in memory.

The data are read once a process, by TensorFlow operations inside the input's
graph, and stay there. Neither the graph nor a checkpoint holds a copy, and a
worker in another process reads them itself.

    load (once) --> data --+
                           +--> batch(data, positions) --> batch
    batch number b --------+
      training: the global step, so that a resumed run goes on where it was
      evaluation: 0, 1, ..., to the end of the data
"""

import abc

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.inputs import split_input


class ResidentInput(split_input.SplitInput):
  """Base class of inputs whose batch is a function of seed and number alone.

  Training: batch b takes the examples at positions b * batch size and on of an
  endless stream, in which each epoch is a new permutation of the examples. The
  stream depends on `random_seed` alone. b is the global step. (With a TPU's
  infeed, which runs ahead of the global step, b counts the batches since the
  start of the process; with one infeed a host, each takes its own part of the
  batch.)

  Evaluation: one pass in the data's order. The last batch is filled up with
  examples of weight 0.

  A subclass knows `num_examples`, reads the data in `LoadData` and makes
  batches of them in `MakeBatch`.
  """

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    if p.split not in ('train', 'test'):
      raise ValueError(
        f"{p.name}: split must be 'train' or 'test', got {p.split!r}."
      )

  @property
  @abc.abstractmethod
  def num_examples(self):
    """Number of examples in the split."""

  @abc.abstractmethod
  def LoadData(self):
    """Returns the data, a NestedMap of tensors; runs once a process."""

  @abc.abstractmethod
  def MakeBatch(self, data, index, present, number):
    """Returns a batch.

    Args:
      data: What `LoadData` returned.
      index: int64 [batch size], which examples, from 0 to `num_examples` - 1.
      present: bool [batch size], False for an example of weight 0.
      number: An int64 scalar tensor, the number of the batch within its
        stream; for random numbers, together with `random_seed`.

    Returns:
      A NestedMap of tensors whose first dimension is the batch size, static.
    """

  def CheckBatchSize(self):
    """Refuses a training batch that would show an example twice."""
    p = self.params
    size = self.InfeedBatchSize()
    if p.training and size > self.num_examples:
      raise ValueError(
        f'{p.name}: batch_size={p.batch_size} asks for {size} examples a '
        f'batch, but the split {p.split!r} has {self.num_examples}. Lower '
        'batch_size or give more data.'
      )

  def GetDataset(self):
    """Returns a tf.data.Dataset of batches, numbered from 0."""
    size = self.InfeedBatchSize()
    hosts, host = self.datasource.num_hosts, self.datasource.host_id
    if self.params.training:
      numbers = tf.data.Dataset.counter()
      make = self._TrainBatch
    else:
      numbers = tf.data.Dataset.range(-(-self.num_examples // (size * hosts)))
      make = self._TestBatch
    # The batch of all hosts together is cut into one part for each.
    numbers = numbers.map(lambda b: b * hosts + host)
    pairs = tf.data.Dataset.zip((self._Data(), numbers))
    batches = pairs.map(lambda data, number: make(data, size, number))
    return batches.prefetch(2)

  def SourceDataset(self):
    """What the data source iterates over."""
    return self._Data() if self._follows_global_step else self.GetDataset()

  def GetPreprocessedInputBatch(self):
    """Returns the next batch, see the class."""
    if not self._follows_global_step:
      return self.datasource.GetNext()
    # On the CPU, or a GPU would be sent all of the data in every step.
    with tf.device('/device:CPU:0'):
      data = self.datasource.GetNext()
      return self._TrainBatch(
        data, self.InfeedBatchSize(), py_utils.GetGlobalStep()
      )

  @property
  def _follows_global_step(self):
    return self.params.training and not py_utils.use_tpu()

  def _Data(self):
    """The data, again and again; the tensors are the same each time."""
    once = tf.data.Dataset.from_tensors(0).map(lambda _: self.LoadData())
    return once.cache().repeat()

  def _Positions(self, size, number):
    return number * size + tf.range(size, dtype=tf.int64)

  def _TrainBatch(self, data, size, number):
    """Batch `number` of the endless stream of training batches."""
    with tf.name_scope('train_batch'):
      number = tf.cast(number, tf.int64)
      positions = self._Positions(size, number)
      seed = tf.constant(self.params.random_seed, tf.int64)
      index = tf.random_index_shuffle(
        positions % self.num_examples,
        seed=tf.stack(
          [
            tf.fill([size], seed),
            positions // self.num_examples,  # The epoch.
            tf.ones([size], tf.int64),
          ],
          axis=1,
        ),
        max_index=tf.fill([size], tf.constant(self.num_examples - 1, tf.int64)),
      )
      return self.MakeBatch(data, index, tf.fill([size], True), number)

  def _TestBatch(self, data, size, number):
    """Batch `number` of the pass over all examples."""
    with tf.name_scope('test_batch'):
      number = tf.cast(number, tf.int64)
      positions = self._Positions(size, number)
      index = tf.minimum(positions, self.num_examples - 1)
      return self.MakeBatch(data, index, positions < self.num_examples, number)
