# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""AmoebaNet scaled down to the handwritten digits of scikit-learn."""

from lingvo.core import base_model_params, optimizer, schedule

from lingvo_gpipe import model_registration
from lingvo_gpipe.inputs import digits
from lingvo_gpipe.models import amoebanet, image_classifier

_BATCH_SIZE = 128
_NUM_MICRO_BATCHES = 8
# Milliseconds for forward and backward of one micro-batch on one core: stem,
# normal, reduction, normal, reduction, normal, classifier. Images this small
# take their time in starting ops, so FLOPs would say little.
_LAYER_TIMES = [0.5, 10.0, 8.0, 10.5, 5.0, 7.0, 0.5]


@model_registration.RegisterSingleTaskModel
class AmoebaNetD(base_model_params.SingleTaskModelParams):
  """AmoebaNet-D (3, 32) for images of 8x8 pixels.

  The structure is the paper's but for the stem, which keeps the 8x8 pixels
  where the original reduces an image to an eighth before the first normal
  cell. With three normal and two reduction cells the sides are 8, 4 and 2.
  """

  NETWORK = amoebanet.AmoebaNetParams

  def GetAllDatasetParams(self):
    """The data sets: 1,433 images to train on, 364 to test on."""
    return {
      'Train': digits.DigitsInput.TrainParams().Set(batch_size=_BATCH_SIZE),
      'Test': digits.DigitsInput.TestParams().Set(batch_size=_BATCH_SIZE),
    }

  def Network(self):
    """Params of the network."""
    p = type(self).NETWORK()
    p.Set(
      num_normal_cells=3,
      dim=32,
      num_classes=10,
      input_dim=1,
      stem_stride=1,
      num_stem_reductions=0,
    )
    # The moving averages must settle within some hundred steps.
    p.batch_norm.decay = 0.9
    return p

  def Task(self):
    """Params of the task."""
    p = image_classifier.ImageClassifier.Params().Set(name='digits')
    p.pipeline.Set(
      sub=amoebanet.AmoebaNetLayers(self.Network()),
      balance=_LAYER_TIMES,
      num_micro_batches=_NUM_MICRO_BATCHES,
      schedule='1f1b',
      recompute='always',
    )
    p.loss.Set(num_classes=10, label_smoothing=0.1)
    tp = p.train
    tp.max_steps = 500
    tp.learning_rate = 0.03
    tp.optimizer = optimizer.Adam.Params()
    tp.lr_schedule = schedule.LinearRampupCosineSchedule.Params().Set(
      warmup_steps=30
    )
    tp.clip_gradient_norm_to_value = 5.0
    tp.save_interval_seconds = 60
    tp.summary_interval_steps = 20
    return p


@model_registration.RegisterSingleTaskModel
class AmoebaNetB(AmoebaNetD):
  """AmoebaNet-B of the same size."""

  NETWORK = amoebanet.AmoebaNetB
