# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The AmoebaNet models of the GPipe paper and its announcement, on ImageNet.

(L, D), K and the image size of Table 1 are those of arXiv:1811.06965, on
devices of 8 GB; AmoebaNet-B (18, 512) is the model of the announcement.

The recipe is that of arXiv:1802.01548 and of its authors' code (tensorflow/tpu,
models/official/amoeba_net), with a learning rate in proportion to the batch.
The auxiliary head is left out, as it is in the paper's parameter counts.
"""

from lingvo.core import base_model_params, optimizer, schedule

from lingvo_gpipe import model_registration
from lingvo_gpipe.inputs import tfds_images
from lingvo_gpipe.models import amoebanet, image_classifier

_NUM_TRAIN_IMAGES = 1281167
_NUM_EPOCHS = 100
_WARMUP_EPOCHS = 3
_LR_AN_EXAMPLE = 0.015 / 32
_LR_DECAY = 0.97
_EPOCHS_A_DECAY = 2.4


class _AmoebaNet(base_model_params.SingleTaskModelParams):
  """What all these models share; each says its size and its pipeline.

  Attributes:
    NETWORK: Params of the cells: AmoebaNet-D or -B.
    LENGTH: L, the number of normal cells.
    DIM: D, the channels of the first of them.
    IMAGE_SIZE: Pixels to a side.
    NUM_PARTITIONS: K; 0 for all devices of a model split.
  """

  NETWORK = amoebanet.AmoebaNetParams
  LENGTH = 18
  DIM = 256
  IMAGE_SIZE = 224
  BATCH_SIZE = 128
  NUM_PARTITIONS = 0
  NUM_MICRO_BATCHES = 32
  SCHEDULE = '1f1b'
  RECOMPUTE = 'always'

  def GetAllDatasetParams(self):
    """The data sets: 1,281,167 images to train on, 50,000 to test on."""
    source = tfds_images.TfdsImagesInput
    params = {'Train': source.TrainParams(), 'Test': source.TestParams()}
    for p in params.values():
      p.Set(batch_size=self.BATCH_SIZE, image_size=self.IMAGE_SIZE)
    return params

  def Network(self):
    p = type(self).NETWORK()
    p.Set(num_normal_cells=self.LENGTH, dim=self.DIM, num_classes=1000)
    p.dropout_keep_prob = 0.5
    # Its epsilon is Lingvo's, the 0.001 of the recipe.
    p.batch_norm.decay = 0.9997
    p.drop_path.keep_prob = 0.7
    return p

  def Task(self):
    p = image_classifier.ImageClassifier.Params().Set(name='imagenet')
    size = self.IMAGE_SIZE
    examples = max(self.BATCH_SIZE // self.NUM_MICRO_BATCHES, 1)
    p.pipeline.Set(
      sub=amoebanet.AmoebaNetLayers(self.Network()),
      num_partitions=self.NUM_PARTITIONS,
      num_micro_batches=self.NUM_MICRO_BATCHES,
      schedule=self.SCHEDULE,
      recompute=self.RECOMPUTE,
      input_shapes=f'float32[{examples},{size},{size},3]',
    )
    p.loss.Set(num_classes=1000, label_smoothing=0.1)
    steps_an_epoch = _NUM_TRAIN_IMAGES / self.BATCH_SIZE
    tp = p.train
    tp.max_steps = round(_NUM_EPOCHS * steps_an_epoch)
    tp.learning_rate = _LR_AN_EXAMPLE * self.BATCH_SIZE
    decays = (_NUM_EPOCHS - _WARMUP_EPOCHS) / _EPOCHS_A_DECAY
    tp.lr_schedule = schedule.LinearRampupExponentialDecay.Params().Set(
      warmup=round(_WARMUP_EPOCHS * steps_an_epoch),
      decay_start=round(_WARMUP_EPOCHS * steps_an_epoch) + 1,
      decay_end=tp.max_steps,
      min=_LR_DECAY**decays,
    )
    tp.clip_gradient_norm_to_value = 10.0
    tp.optimizer = optimizer.RMSProp.Params().Set(
      decay=0.9, momentum=0.9, epsilon=1.0
    )
    tp.l2_regularizer_weight = 4e-5
    tp.ema_decay = 0.9999
    tp.summary_interval_steps = 500
    return p


@model_registration.RegisterSingleTaskModel
class AmoebaNetD18x128(_AmoebaNet):
  """The model of the paper's Table 3, over all devices of a split."""

  DIM = 128


@model_registration.RegisterSingleTaskModel
class AmoebaNetD18x208(_AmoebaNet):
  """82M parameters: the largest without pipeline and recomputation."""

  DIM = 208
  NUM_PARTITIONS = 1
  NUM_MICRO_BATCHES = 1
  SCHEDULE = 'gpipe'
  RECOMPUTE = 'never'


@model_registration.RegisterSingleTaskModel
class AmoebaNetD18x256(_AmoebaNet):
  """The model of the paper's Table 2, over all devices of a split."""


@model_registration.RegisterSingleTaskModel
class AmoebaNetD18x416(_AmoebaNet):
  """318M parameters: the largest on one device, with recomputation."""

  DIM = 416
  NUM_PARTITIONS = 1


@model_registration.RegisterSingleTaskModel
class AmoebaNetD18x512(_AmoebaNet):
  """AmoebaNet-D as wide as the announced AmoebaNet-B."""

  DIM = 512
  NUM_PARTITIONS = 4


@model_registration.RegisterSingleTaskModel
class AmoebaNetD18x544(_AmoebaNet):
  """542M parameters over two cells."""

  DIM = 544
  NUM_PARTITIONS = 2


@model_registration.RegisterSingleTaskModel
class AmoebaNetD36x544(_AmoebaNet):
  """1.05B parameters over four cells."""

  LENGTH = 36
  DIM = 544
  NUM_PARTITIONS = 4


@model_registration.RegisterSingleTaskModel
class AmoebaNetD72x512(_AmoebaNet):
  """1.8B parameters over eight cells."""

  LENGTH = 72
  DIM = 512
  NUM_PARTITIONS = 8


@model_registration.RegisterSingleTaskModel
class AmoebaNetB18x512(_AmoebaNet):
  """The announced model: 557M parameters, 480x480 pixels, four cells."""

  NETWORK = amoebanet.AmoebaNetB
  DIM = 512
  IMAGE_SIZE = 480
  NUM_PARTITIONS = 4
