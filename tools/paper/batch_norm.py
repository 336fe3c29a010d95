# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Held-out accuracy with batch norm: pipelined, and plain Lingvo layers.

```
  pipelined    mini-batch 128 = 8 micro-batches of 16, through 2 cells;
               one update of weights and of moving averages a mini-batch
  plain        8 batches of 16, one after the other, through the same layers
               called in turn; Lingvo's Accumulator adds up their gradients
```

Both normalise by statistics of 16 images, see the same images in the same order
and take the same steps. They differ in how moving averages are kept: the
pipeline adds the statistics of a mini-batch once, with `decay`; the plain model
those of 16 images at a time, with the eighth root of `decay`.
"""

import dataclasses
import math
import os
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf
from lingvo import model_registry
from lingvo.core import base_model, optimizer, py_utils

from lingvo_gpipe.models import losses
from model_params.image import digits
from tools.paper import convergence

NUM_CELLS = 2
NUM_MICRO_BATCHES = 8


@dataclasses.dataclass(frozen=True)
class Comparison:
  """Accuracies of several runs of both kinds: of a seed each."""

  pipelined: tuple[float, ...]
  plain: tuple[float, ...]

  @property
  def difference(self) -> float:
    """How much better the pipelined runs are, in the mean."""
    return statistics.mean(self.pipelined) - statistics.mean(self.plain)

  @property
  def standard_error(self) -> float:
    """The standard error of the difference, runs taken as independent."""
    return math.sqrt(
      sum(statistics.variance(a) / len(a) for a in (self.pipelined, self.plain))
    )

  @property
  def within_noise(self) -> bool:
    """Whether the difference is less than two standard errors."""
    return abs(self.difference) <= 2 * self.standard_error


def spread(values: Sequence[float]) -> float:
  """The standard deviation of some runs, at least two."""
  return statistics.stdev(values)


class PlainClassifier(base_model.BaseTask):
  """Calls layers one after the other, on the whole of a batch."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('sub', [], 'Params of the layers; the last gives the logits.')
    p.Define('loss', losses.ClassificationLoss.Params(), 'Loss.')
    return p

  def __init__(self, params):
    super().__init__(params)
    self.CreateChildren('sub', self.params.sub)
    self.CreateChild('classification', self.params.loss)

  def ComputePredictions(self, theta, input_batch):
    """Returns logits [batch, num_classes]."""
    values = (input_batch.image,)
    for layer, weights in zip(self.sub, theta.sub, strict=True):
      result = layer.FProp(weights, *values)
      values = result if isinstance(result, tuple) else (result,)
    return values[0]

  def ComputeLoss(self, theta, predictions, input_batch):
    """Returns metrics, and nothing for single examples."""
    targets = py_utils.NestedMap(
      label=input_batch.label, weight=input_batch.weight
    )
    return self.classification.FProp(
      theta.classification, predictions, targets
    ), {}


def _pipelined_params(data: str, seed: int, num_steps: int) -> Any:
  # A copy: two calls share the input's Params.
  p = model_registry.GetParams('image.digits.AmoebaNetD', data).Copy()
  p.task.pipeline.Set(
    num_partitions=NUM_CELLS, num_micro_batches=NUM_MICRO_BATCHES
  )
  p.task.train.max_steps = num_steps
  return _seeded(p, seed)


def _plain_params(data: str, seed: int, num_steps: int) -> Any:
  p = _pipelined_params(data, seed, num_steps)
  piped, m = p.task, NUM_MICRO_BATCHES
  network = digits.AmoebaNetD().Network()
  network.batch_norm.decay **= 1 / m
  p.task = PlainClassifier.Params().Set(
    name=piped.name,
    sub=digits.amoebanet.AmoebaNetLayers(network),
    loss=piped.loss,
    train=piped.train,
    input=piped.input,
  )
  if data == 'Train':
    p.input.batch_size //= m
  train = p.task.train
  train.optimizer = optimizer.Accumulator.Params().Set(
    optimizer_tpl=train.optimizer, accum_steps=m
  )
  train.max_steps *= m
  train.lr_schedule.Set(
    warmup_steps=train.lr_schedule.warmup_steps * m,
    total_steps=train.max_steps,
  )
  return _seeded(p, seed)


def _seeded(p: Any, seed: int) -> Any:
  p.random_seed = p.task.random_seed = seed
  p.input.random_seed = seed
  return p


def accuracy(pipelined: bool, seed: int, num_steps: int) -> float:
  """Trains on the digits, then evaluates on those held out.

  Args:
    pipelined: With a pipeline, or the layers called one after the other.
    seed: Of weights and of the order of images.
    num_steps: How many mini-batches of 128.

  Returns:
    The share of held-out images that are told right.
  """
  make = _pipelined_params if pipelined else _plain_params
  num_cells = NUM_CELLS if pipelined else 1
  with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, 'weights')
    params = make('Train', seed, num_steps)
    with convergence.session_of(num_cells, 'trainer_client') as session:
      tf.random.set_seed(seed)
      model = params.Instantiate()
      model.ConstructFPropBPropGraph()
      task = model.GetTask()
      session.run(tf.global_variables_initializer())
      task.input.Initialize(session)
      for _ in range(params.task.train.max_steps):
        session.run(task.train_op)
      tf.train.Saver().save(session, path, write_meta_graph=False)
    return _evaluate(make('Test', seed, num_steps), num_cells, path)


def _evaluate(params: Any, num_cells: int, path: str) -> float:
  with convergence.session_of(num_cells, 'evaler') as session:
    model = params.Instantiate()
    model.ConstructFPropGraph()
    task = model.GetTask()
    tf.train.Saver().restore(session, path)
    task.input.Initialize(session)
    right = total = 0.0
    while True:
      try:
        value, weight = session.run(task.eval_metrics['accuracy'])
      except tf.errors.OutOfRangeError:
        return float(right / total)
      right += value * weight
      total += weight
