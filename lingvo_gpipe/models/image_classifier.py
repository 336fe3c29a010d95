# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Image classification by a pipelined network."""

import lingvo.compat as tf
from lingvo.core import metrics, py_utils

from lingvo_gpipe.models import classification_loss, pipelined_task
from lingvo_gpipe.pipeline import param_values


class ImageClassifier(pipelined_task.PipelinedTask):
  """Trains layers to classify images.

  Input batches are NestedMaps with
    image: float [batch, height, width, channels].
    label: int [batch].
    weight: float [batch], 0 for examples that do not count.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.loss = classification_loss.ClassificationLoss.Params()
    return p

  @classmethod
  def PipelineParams(cls, p):
    return super().PipelineParams(p).Set(target_shapes=_TargetShapes(p))

  def ComputeLoss(self, theta, predictions, input_batch):
    """Runs the pipeline, in training forward and backward.

    Args:
      theta: A NestedMap with the task's weights.
      predictions: Unused.
      input_batch: See the class.

    Returns:
      A pair: metrics {name: (value, weight)}, and an empty dict in place of
      tensors for single examples.
    """
    del predictions
    result = self.pipeline.ComputeLoss(
      theta.pipeline, (input_batch.image,), _Targets(input_batch)
    )
    samples = tf.reduce_sum(tf.cast(input_batch.weight, tf.float32))
    return self._WithCounts(result, num_samples_in_batch=samples), {}

  def Logits(self, theta, images):
    """Runs the pipeline forward.

    Args:
      theta: A NestedMap with the task's weights.
      images: A float tensor [batch, height, width, channels].

    Returns:
      A float32 tensor [batch, num_classes].
    """
    return self.pipeline.FProp(theta.pipeline, images)

  def DecodeWithTheta(self, theta, input_batch):
    """Returns label, predicted label and weight of each example."""
    logits = self.Logits(theta, input_batch.image)
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
    """Adds one decoded batch, arrays of which `DecodeWithTheta` tells."""
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
      logits = self.Logits(self.theta, images)
      fetches = {
        'logits': logits,
        'probabilities': tf.nn.softmax(logits),
        'predicted': tf.argmax(logits, axis=-1),
      }
      return {'default': (fetches, {'images': images})}


def _Targets(input_batch):
  return py_utils.NestedMap(label=input_batch.label, weight=input_batch.weight)


def _TargetShapes(p):
  """The shapes of `_Targets`, if those of the images are given."""
  if p.pipeline.target_shapes or not p.pipeline.input_shapes:
    return p.pipeline.target_shapes
  images = param_values.specs(
    p.pipeline.input_shapes, f'{p.name}.pipeline.input_shapes'
  )
  batch = tf.nest.flatten(images)[0].shape[p.pipeline.batch_dim]
  return f'label=int32[{batch}], weight=float32[{batch}]'
