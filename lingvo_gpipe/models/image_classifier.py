# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Image classification by a pipelined network."""

import lingvo.compat as tf
from lingvo.core import metrics, py_utils

from lingvo_gpipe.models import losses, pipelined_task


class ImageClassifier(pipelined_task.PipelinedTask):
  """Trains layers to classify images.

  Input batches are NestedMaps with
    image: float [batch, height, width, channels].
    label: int [batch].
    weight: float [batch], 0 for examples that do not count.
  """

  INPUT = 'image'
  TARGETS = {'label': 'int32', 'weight': 'float32'}

  @classmethod
  def Params(cls):
    p = super().Params()
    p.loss = losses.ClassificationLoss.Params()
    return p

  def Counts(self, input_batch):
    weight = tf.cast(input_batch.weight, tf.float32)
    return {'num_samples_in_batch': tf.reduce_sum(weight)}

  def DecodeWithTheta(self, theta, input_batch):
    logits = self.pipeline.FProp(theta.pipeline, input_batch.image)
    return py_utils.NestedMap(
      label=tf.cast(input_batch.label, tf.int32),
      predicted=tf.argmax(logits, axis=-1, output_type=tf.int32),
      weight=input_batch.weight,
    )

  def CreateDecoderMetrics(self):
    return {
      'num_samples_in_batch': metrics.AverageMetric(),
      'accuracy': metrics.AverageMetric(),
    }

  def PostProcessDecodeOut(self, decode_out_dict, decode_metrics_dict):
    weight = decode_out_dict['weight']
    right = decode_out_dict['label'] == decode_out_dict['predicted']
    total = weight.sum()
    decode_metrics_dict['num_samples_in_batch'].Update(total)
    if total > 0:
      decode_metrics_dict['accuracy'].Update(
        (right * weight).sum() / total, total
      )
    return []

  def Inference(self):
    """Returns the subgraph 'default': images in, probabilities out."""
    with tf.name_scope('inference'):
      images = tf.placeholder(
        self.params.dtype, [None, None, None, None], name='images'
      )
      logits = self.pipeline.FProp(self.theta.pipeline, images)
      fetches = {
        'logits': logits,
        'probabilities': tf.nn.softmax(logits),
        'predicted': tf.argmax(logits, axis=-1),
      }
      return {'default': (fetches, {'images': images})}
