# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the AmoebaNets for small grey images in ten classes have in common."""

from lingvo.core import base_model_params, optimizer, schedule

from lingvo_gpipe.models import amoebanet, image_classifier

_NUM_CLASSES = 10
_NUM_NORMAL_CELLS = 3
_NUM_MICRO_BATCHES = 8


class AmoebaNetForSmallImages(base_model_params.SingleTaskModelParams):
  """An AmoebaNet of three normal cells, with two reduction cells between them.

  The stem reduces an image by STEM_STRIDE, the paper's to an eighth.
  """

  NETWORK = amoebanet.AmoebaNetParams
  DIM = 32
  STEM_STRIDE = 1
  # As in `amoebanet.AmoebaNetParams`.
  STEM_DIM = 0
  # The moving averages must settle within some hundred steps.
  BATCH_NORM_DECAY = 0.9

  def Network(self):
    p = type(self).NETWORK()
    p.Set(
      num_normal_cells=_NUM_NORMAL_CELLS,
      dim=self.DIM,
      num_classes=_NUM_CLASSES,
      input_dim=1,
      stem_stride=self.STEM_STRIDE,
      stem_dim=self.STEM_DIM,
      num_stem_reductions=0,
    )
    p.batch_norm.decay = self.BATCH_NORM_DECAY
    return p

  def Task(self):
    """Params of the task, but for its name and how long to train."""
    p = image_classifier.ImageClassifier.Params()
    p.pipeline.Set(
      sub=amoebanet.AmoebaNetLayers(self.Network()),
      num_micro_batches=_NUM_MICRO_BATCHES,
      schedule='1f1b',
    )
    p.loss.Set(num_classes=_NUM_CLASSES, label_smoothing=0.1)
    tp = p.train
    tp.optimizer = optimizer.Adam.Params()
    tp.lr_schedule = schedule.LinearRampupCosineSchedule.Params()
    tp.clip_gradient_norm_to_value = 5.0
    tp.save_interval_seconds = 60
    return p
