# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Base classes of inputs that train on one split and test on another."""

import lingvo.compat as tf
from lingvo.core import base_input_generator, datasource, py_utils


class _Source(datasource.TFDatasetSource):
  def GetDataset(self):
    return self._input_generator.SourceDataset()


class SplitInput(base_input_generator.BaseInputGenerator):
  """Base class of inputs that read one split of a data set.

  Training: without end, in an order that `random_seed` determines.
  Evaluation: one pass, then OutOfRangeError, as Lingvo's runners want it.
  """

  # The split that is held out.
  TEST_SPLIT = 'test'

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('split', 'train', f"Such as 'train' or {cls.TEST_SPLIT!r}.")
    p.Define('training', True, 'Shuffled and endless; else one pass in order.')
    p.random_seed = 0
    p.batch_size = 64
    return p

  @classmethod
  def TrainParams(cls):
    return cls.Params().Set(name='Train')

  @classmethod
  def TestParams(cls):
    return cls.Params().Set(
      name='Test',
      split=cls.TEST_SPLIT,
      training=False,
      resettable=True,
      # To the end of the split, and from its start the next time.
      eval_samples_per_summary=0,
      decoder_samples_per_summary=0,
    )

  def __init__(self, params):
    super().__init__(params.Copy().Set(file_datasource=_Source.Params()))
    if self.params.batch_size < 1:
      self.Refuse('batch_size', 'positive')
    if self.params.use_per_host_infeed:
      self.Refuse('use_per_host_infeed', 'False: one host reads for all')

  def Refuse(self, name, allowed):
    p = self.params
    raise ValueError(
      f'{p.name}: {name} must be {allowed}, got {p.Get(name)!r}.'
    )

  def SourceDataset(self):
    return self.GetDataset()

  def Reset(self, sess=None):
    self.datasource.Reset(sess)


class ResidentInput(SplitInput):
  """Base class of inputs of data that fit in memory.

  The data are read once a process, inside the input's graph.

  Training: batch b is part b of an endless stream, in which each epoch is a new
  permutation of the examples, by `random_seed` alone. b is the global step.
  (With a TPU's infeed, which runs ahead of it, b counts the batches since the
  start of the process.)

  Evaluation: one pass in order; the last batch is filled up with weight 0.

  A subclass has `num_examples`, of the split; `LoadData()`, which returns a
  NestedMap of tensors; and `MakeBatch(data, index, present, number)`, which
  makes batch b of the examples `index`, int64 [batch size], of which those not
  `present`, bool [batch size], get the weight 0.
  """

  def __init__(self, params):
    super().__init__(params)
    if self.params.split not in ('train', 'test'):
      self.Refuse('split', "'train' or 'test'")

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
    size = self.InfeedBatchSize()
    if self.params.training:
      numbers = tf.data.Dataset.counter()
    else:
      numbers = tf.data.Dataset.range(-(-self.num_examples // size))
    pairs = tf.data.Dataset.zip((self._Data(), numbers))
    return pairs.map(self._Batch).prefetch(2)

  def SourceDataset(self):
    return self._Data() if self._follows_global_step else self.GetDataset()

  def GetPreprocessedInputBatch(self):
    if not self._follows_global_step:
      return self.datasource.GetNext()
    # On the CPU, or a GPU would be sent all of the data in every step.
    with tf.device('/device:CPU:0'):
      return self._Batch(self.datasource.GetNext(), py_utils.GetGlobalStep())

  @property
  def _follows_global_step(self):
    return self.params.training and not py_utils.use_tpu()

  def _Data(self):
    once = tf.data.Dataset.from_tensors(0).map(lambda _: self.LoadData())
    return once.cache().repeat()

  def _Batch(self, data, number):
    size, count = self.InfeedBatchSize(), self.num_examples
    with tf.name_scope('batch'):
      number = tf.cast(number, tf.int64)
      positions = number * size + tf.range(size, dtype=tf.int64)
      if not self.params.training:
        index = tf.minimum(positions, count - 1)
        return self.MakeBatch(data, index, positions < count, number)
      seed = tf.constant(self.params.random_seed, tf.int64)
      epoch = positions // count
      index = tf.random_index_shuffle(
        positions % count,
        seed=tf.stack(
          [tf.fill([size], seed), epoch, tf.ones([size], tf.int64)], axis=1
        ),
        max_index=tf.fill([size], tf.constant(count - 1, tf.int64)),
      )
      return self.MakeBatch(data, index, tf.fill([size], True), number)
