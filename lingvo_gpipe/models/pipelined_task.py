# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What tasks share whose model and loss are one pipeline."""

import lingvo.compat as tf
from lingvo.core import base_layer, base_model, py_utils, schedule

from lingvo_gpipe import sequential_layer
from lingvo_gpipe.pipeline import flat_layers, named_values, param_values


class PipelinedTask(base_model.BaseTask):
  """Trains a list of layers, cut into cells.

  Values that layers take and none puts aside, such as 'segment_ids', are side
  inputs, from the input batch. A learning rate schedule with a Param
  `total_steps` that is 0 ends at `train.max_steps`.
  """

  INPUT = ''  # Name in input batches of what the first layer takes.
  TARGETS: dict[str, str] = {}  # What the loss takes: its dtypes.
  TARGET_RANK = 1  # Dimensions that targets and side inputs share with it.

  @classmethod
  def Params(cls):
    p = super().Params()
    pipeline = sequential_layer.GPipeSequentialLayer.Params()
    pipeline.schedule = '1f1b'
    p.Define('pipeline', pipeline, 'Layers, to the logits; how to cut them.')
    p.Define('loss', None, 'Loss.')
    p.train.lr_schedule = schedule.LinearRampupCosineSchedule.Params()
    return p

  @classmethod
  def PipelineParams(cls, p):
    """`p.pipeline` of a task with dtypes, loss, side inputs, and shapes."""
    result = p.pipeline.Copy().Set(loss_tpl=p.loss, side_inputs=_SideNames(p))
    base_layer.BaseLayer.CopyBaseParams(p, result)
    if not result.input_shapes:
      return result
    inputs = param_values.specs(
      result.input_shapes, f'{p.name}.pipeline.input_shapes'
    )
    dims = tf.nest.flatten(inputs)[0].shape.as_list()[: cls.TARGET_RANK]
    shape = ','.join(map(str, dims))

    def shapes(dtypes):
      return ', '.join(f'{name}={t}[{shape}]' for name, t in dtypes.items())

    side_inputs = dict.fromkeys(result.side_inputs, 'int32')
    return result.Set(
      target_shapes=shapes(cls.TARGETS), side_input_shapes=shapes(side_inputs)
    )

  def __init__(self, params):
    params = params.Copy()
    _EndAtMaxSteps(params.train)
    super().__init__(params)
    self.CreateChild('pipeline', self.PipelineParams(self.params))

  def ComputePredictions(self, theta, input_batch):
    """Returns nothing: the pipeline computes predictions and loss together."""
    del theta, input_batch
    return py_utils.NestedMap()

  def ComputeLoss(self, theta, predictions, input_batch):
    """Metrics of the loss and `Counts`; nothing for single examples."""
    del predictions
    result = self.pipeline.ComputeLoss(
      theta.pipeline,
      (input_batch[self.INPUT],),
      py_utils.NestedMap({name: input_batch[name] for name in self.TARGETS}),
      self._SideInputs(input_batch),
    )
    # Lingvo's runners take the value for the batch's size, and add up value
    # times weight to see when an evaluation is complete.
    counts = self.Counts(input_batch)
    result.update({name: (n, tf.constant(1.0)) for name, n in counts.items()})
    return result, {}

  def Counts(self, input_batch):
    """What a batch has: {'num_samples_in_batch': ...}, float32 scalars."""
    raise NotImplementedError

  def _SideInputs(self, input_batch):
    names = self.pipeline.params.side_inputs
    missing = [name for name in names if name not in input_batch]
    if missing:
      raise ValueError(
        f'{self.path}: layers take {missing}, but the input batch has '
        f'{sorted(input_batch.keys())}.'
      )
    return {name: input_batch[name] for name in names}


def _SideNames(p):
  put, taken = set(), {}
  for layer in flat_layers.flatten(p.pipeline.sub, p.pipeline):
    declared = named_values.declared(layer.params)
    put |= set(declared.puts)
    taken.update(dict.fromkeys(declared.takes))
  return [name for name in taken if name not in put]


def _EndAtMaxSteps(train):
  learners = train.learner if train.learner is not None else train
  if not isinstance(learners, list | tuple):
    learners = [learners]
  for learner in learners:
    rate = learner.lr_schedule
    if rate is not None and 'total_steps' in rate and not rate.total_steps:
      rate.total_steps = train.max_steps
