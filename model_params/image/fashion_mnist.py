# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""AmoebaNet scaled to Fashion-MNIST and its relatives in the IDX format."""

from lingvo_gpipe import model_registration
from lingvo_gpipe.inputs import idx_images

from . import small_images

_BATCH_SIZE = 256


@model_registration.RegisterSingleTaskModel
class AmoebaNetD(small_images.AmoebaNetForSmallImages):
  """AmoebaNet-D (3, 24) for images of 28x28 pixels in ten classes.

  The stem halves the sides to 14; in the normal cells they are 14, 7 and 4.
  """

  DIM = 24
  STEM_STRIDE = 2
  # A quarter of DIM would let through fewer numbers than an image has pixels.
  STEM_DIM = 24
  BATCH_NORM_DECAY = 0.95

  def GetAllDatasetParams(self):
    """The data sets: 60,000 images to train on, 10,000 to test on."""
    train = idx_images.IdxImagesInput.TrainParams().Set(
      batch_size=_BATCH_SIZE, flip=True
    )
    test = idx_images.IdxImagesInput.TestParams().Set(batch_size=_BATCH_SIZE)
    return {'Train': train, 'Test': test}

  def Task(self):
    p = super().Task().Set(name='fashion_mnist')
    micro_batch = _BATCH_SIZE // p.pipeline.num_micro_batches
    p.pipeline.Set(
      recompute='never', input_shapes=f'float32[{micro_batch},28,28,1]'
    )
    tp = p.train
    tp.max_steps = 2600
    tp.learning_rate = 0.01
    tp.lr_schedule.warmup_steps = 50
    tp.summary_interval_steps = 50
    return p
