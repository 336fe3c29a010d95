# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What inputs have in common that train on one split and test on another."""

from lingvo.core import base_input_generator, datasource


class _Source(datasource.TFDatasetSource):
  """What the input generator's `SourceDataset` gives, as it is."""

  def GetDataset(self):
    return self._input_generator.SourceDataset()


class SplitInput(base_input_generator.BaseInputGenerator):
  """Base class of inputs that read one split of a data set.

  Training: without end, in an order that `random_seed` determines.
  Evaluation: one pass, then OutOfRangeError, as Lingvo's runners want it.

  A subclass has `SourceDataset`, which returns a tf.data.Dataset.
  """

  # The split that is held out.
  TEST_SPLIT = 'test'

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('split', 'train', f"Such as 'train' or {cls.TEST_SPLIT!r}.")
    p.Define(
      'training',
      True,
      'Read shuffled and endlessly; otherwise one pass in fixed order.',
    )
    p.random_seed = 0
    p.batch_size = 64
    return p

  @classmethod
  def TrainParams(cls):
    """Params of the input for training."""
    return cls.Params().Set(name='Train')

  @classmethod
  def TestParams(cls):
    """Params of the input for evaluation on what is held out."""
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
    params = params.Copy()
    if params.random_seed is None:
      params.random_seed = 0
    params.file_datasource = _Source.Params()
    super().__init__(params)
    p = self.params
    if p.batch_size < 1:
      raise ValueError(
        f'{p.name}: batch_size must be positive, got {p.batch_size}.'
      )

  def Reset(self, sess=None):
    """Starts again with the first batch of an evaluation."""
    self.datasource.Reset(sess)
