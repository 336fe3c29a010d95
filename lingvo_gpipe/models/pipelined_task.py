# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What tasks share whose model and loss are one pipeline."""

import lingvo.compat as tf
from lingvo.core import base_layer, base_model, py_utils, schedule

from lingvo_gpipe import sequential_layer
from lingvo_gpipe.models import learning_rates


class PipelinedTask(base_model.BaseTask):
  """Trains a list of layers, cut into cells.

  The loss is computed in the last cell, where the logits are, so any schedule
  can be used, and only the logits of one micro-batch exist at a time.
  Evaluation and decoding run forward only through the same cells.

  A learning rate schedule with a Param `total_steps` that is 0 ends at
  `train.max_steps`.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define(
      'pipeline',
      sequential_layer.GPipeSequentialLayer.Params().Set(schedule='1f1b'),
      'The pipeline; its layers, the last of which gives the logits, and how '
      'to cut them. Its loss, side inputs and the shapes of targets come from '
      'this task.',
    )
    p.Define('loss', None, 'Loss.')
    p.train.lr_schedule = schedule.LinearRampupCosineSchedule.Params()
    return p

  @classmethod
  def PipelineParams(cls, p):
    """Params of the pipeline that a task of Params `p` builds."""
    result = p.pipeline.Copy().Set(loss_tpl=p.loss)
    return base_layer.BaseLayer.CopyBaseParams(p, result)

  def __init__(self, params):
    params = params.Copy()
    learning_rates.end_at_max_steps(params.train)
    super().__init__(params)
    self.CreateChild('pipeline', self.PipelineParams(self.params))

  def ComputePredictions(self, theta, input_batch):
    """Returns nothing: the pipeline computes predictions and loss together."""
    del theta, input_batch
    return py_utils.NestedMap()

  def _WithCounts(self, metrics, **counts):
    """Adds numbers of what the batch has to the metrics, and returns them.

    Lingvo's runners take the value for the batch's size, and add up value
    times weight to see when an evaluation is complete.
    """
    one = tf.constant(1.0)
    metrics.update({name: (n, one) for name, n in counts.items()})
    return metrics
