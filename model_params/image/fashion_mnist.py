# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""AmoebaNet scaled to Fashion-MNIST and its relatives in the IDX format."""

from lingvo.core import base_model_params, optimizer, schedule

from lingvo_gpipe import model_registration
from lingvo_gpipe.inputs import idx_images
from lingvo_gpipe.models import amoebanet, image_classifier

_BATCH_SIZE = 256
_NUM_MICRO_BATCHES = 8


@model_registration.RegisterSingleTaskModel
class AmoebaNetD(base_model_params.SingleTaskModelParams):
  """AmoebaNet-D (3, 24) for images of 28x28 pixels in ten classes.

  The stem halves the sides to 14; with the two reduction cells between the
  three normal ones they become 7 and 4.
  """

  NETWORK = amoebanet.AmoebaNetParams

  def GetAllDatasetParams(self):
    """The data sets: 60,000 images to train on, 10,000 to test on."""
    train = idx_images.IdxImagesInput.TrainParams().Set(
      batch_size=_BATCH_SIZE, flip=True
    )
    test = idx_images.IdxImagesInput.TestParams().Set(batch_size=_BATCH_SIZE)
    return {'Train': train, 'Test': test}

  def Network(self):
    """Params of the network."""
    p = type(self).NETWORK()
    p.Set(
      num_normal_cells=3,
      dim=24,
      num_classes=10,
      input_dim=1,
      stem_stride=2,
      num_stem_reductions=0,
    )
    p.batch_norm.decay = 0.95
    return p

  def Task(self):
    """Params of the task."""
    p = image_classifier.ImageClassifier.Params().Set(name='fashion_mnist')
    p.pipeline.Set(
      sub=amoebanet.AmoebaNetLayers(self.Network()),
      num_micro_batches=_NUM_MICRO_BATCHES,
      schedule='1f1b',
      recompute='never',
      input_shapes=f'float32[{_BATCH_SIZE // _NUM_MICRO_BATCHES},28,28,1]',
    )
    p.loss.Set(num_classes=10, label_smoothing=0.1)
    tp = p.train
    tp.max_steps = 2600
    tp.learning_rate = 0.01
    tp.optimizer = optimizer.Adam.Params()
    tp.lr_schedule = schedule.LinearRampupCosineSchedule.Params().Set(
      warmup_steps=50
    )
    tp.clip_gradient_norm_to_value = 5.0
    tp.save_interval_seconds = 60
    tp.summary_interval_steps = 50
    return p
