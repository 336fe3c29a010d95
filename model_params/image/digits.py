# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""AmoebaNet scaled down to the handwritten digits of scikit-learn."""

from lingvo_gpipe import model_registration
from lingvo_gpipe.inputs import digits
from lingvo_gpipe.models import amoebanet

from . import small_images

_BATCH_SIZE = 128
# Milliseconds for forward and backward of one micro-batch on one core: stem,
# normal, reduction, normal, reduction, normal, classifier. Images this small
# take their time in starting ops, so FLOPs would say little.
_LAYER_TIMES = [0.5, 10.0, 8.0, 10.5, 5.0, 7.0, 0.5]


@model_registration.RegisterSingleTaskModel
class AmoebaNetD(small_images.AmoebaNetForSmallImages):
  """AmoebaNet-D (3, 32) for images of 8x8 pixels.

  The stem keeps the 8x8 pixels; the sides in the normal cells are 8, 4 and 2.
  """

  def GetAllDatasetParams(self):
    """The data sets: 1,433 images to train on, 364 to test on."""
    return {
      'Train': digits.DigitsInput.TrainParams().Set(batch_size=_BATCH_SIZE),
      'Test': digits.DigitsInput.TestParams().Set(batch_size=_BATCH_SIZE),
    }

  def Task(self):
    p = super().Task().Set(name='digits')
    p.pipeline.Set(balance=_LAYER_TIMES, recompute='always')
    tp = p.train
    tp.max_steps = 500
    tp.learning_rate = 0.03
    tp.lr_schedule.warmup_steps = 30
    tp.summary_interval_steps = 20
    return p


@model_registration.RegisterSingleTaskModel
class AmoebaNetB(AmoebaNetD):
  """AmoebaNet-B of the same size."""

  NETWORK = amoebanet.AmoebaNetB
