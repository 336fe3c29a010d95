# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compares held-out accuracy with batch norm, pipelined and not.

```
  pipelined    mini-batch 128 = 8 micro-batches of 16, through 2 cells;
               one update of weights and of moving averages a mini-batch
  plain        8 batches of 16, one after the other, through the same layers
               called in turn; Lingvo's Accumulator adds up their gradients
```

Both normalise by statistics of 16 images, see the same images in the same order
and take the same steps, several times each from different weights. They differ
in how moving averages are kept: the pipeline adds the statistics of a
mini-batch once, with `decay`; the plain model those of 16 images at a time,
with the eighth root of `decay`.
"""

import math
import os
import statistics
import tempfile
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf
from lingvo import model_registry
from lingvo.core import base_model, optimizer, py_utils

from lingvo_gpipe.models import amoebanet, losses
from model_params.image import digits
from tools.paper import convergence

NUM_CELLS = 2
NUM_MICRO_BATCHES = 8


class PlainClassifier(base_model.BaseTask):
  """Calls layers one after the other, on the whole of a batch."""

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define('sub', [], 'Params of the layers; the last gives the logits.')
    p.Define('loss', losses.ClassificationLoss.Params(), 'Loss.')
    return p

  def __init__(self, params: Any):
    super().__init__(params)
    self.CreateChildren('sub', self.params.sub)
    self.CreateChild('classification', self.params.loss)

  def ComputePredictions(self, theta: Any, input_batch: Any) -> Any:
    """Returns logits [batch, num_classes]."""
    values = (input_batch.image,)
    for layer, weights in zip(self.sub, theta.sub, strict=True):
      result = layer.FProp(weights, *values)
      values = result if isinstance(result, tuple) else (result,)
    return values[0]

  def ComputeLoss(self, theta: Any, predictions: Any, input_batch: Any) -> Any:
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
    sub=amoebanet.AmoebaNetLayers(network),
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
  """Trains on the digits; the share of those held out that are told right.

  `seed` is of weights and of the order of images.
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


def difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
  """By how much the mean of `a` is larger, and the standard error of that.

  Runs are taken as independent.
  """
  errors = (statistics.variance(runs) / len(runs) for runs in (a, b))
  return statistics.mean(a) - statistics.mean(b), math.sqrt(sum(errors))
