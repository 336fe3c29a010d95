# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Steps of pipelines in eager mode, and in tf.functions.

Lingvo's eager mode is a switch of the whole process, so `run` is for a process
of its own.
"""

import dataclasses
import gc
import sys
import weakref

import example_model
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import tiny_pipeline
from absl import flags
from example_models import MODELS, convolution_batch
from lingvo.core import py_utils

from lingvo_gpipe.pipeline import lingvo_cell


def _weightless_batch():
  batch = convolution_batch()
  # All of a micro-batch: what the loss divides by is 0.
  batch.targets.weights *= tf.constant([1.0, 1, 0, 0, 1, 1, 1])
  return batch


def second_loss(layer, batch):
  metrics = example_model.inside(layer, batch)
  return {'loss': metrics.size}


_DROPOUT = dataclasses.replace(
  MODELS['convolutions'], subs=pt.layer_params(keep_prob=0.8)
)
_MODELS = {
  **MODELS,
  'dropout': _DROPOUT,
  'weightless': dataclasses.replace(_DROPOUT, batch=_weightless_batch),
  'second loss': example_model.Model(
    tiny_pipeline.linear('a', 'b'),
    lambda: example_model.Batch(
      tf.constant(tiny_pipeline.inputs()), tf.ones([8])
    ),
    loss=tiny_pipeline.TwoLosses.Params().Set(name='loss'),
    computes=[second_loss],
  ),
}


@dataclasses.dataclass(frozen=True)
class Case:
  """A pipeline; `compute` is the place in the model's `computes`."""

  model: str
  cut: int = 1
  schedule: str = 'gpipe'
  recompute: str = 'always'
  compute: int = 0

  def params(self):
    return _MODELS[self.model].pipeline(
      self.cut, schedule=self.schedule, recompute=self.recompute
    )

  def metrics(self, layer):
    model = _MODELS[self.model]
    return model.computes[self.compute](layer, model.batch())


CASES = [
  Case('dropout'),
  Case('dropout', 3, '1f1b'),
  Case('dropout', 3, recompute='never'),
  Case('tied weights', 3, '1f1b'),
  Case('weightless', 2, '1f1b', 'never'),
  Case('shared inputs', 2, '1f1b'),
  Case('shared inputs', 2, recompute='never', compute=1),
  Case('second loss', 2, '1f1b'),
]


def name_in(variable):
  return variable.name.partition('/')[2]


def _arrays(tensors):
  return {k: tf.convert_to_tensor(t).numpy() for k, t in tensors.items()}


class _Runner:
  def __init__(self, case, name, values):
    self._case, self._values = case, values
    self.layer = case.params().Set(name=name).Instantiate()
    self._variables = {name_in(v): v for v in self.layer.vars.Flatten()}
    self._reset()

  def _reset(self):
    for name, v in self._variables.items():
      v.assign(self._values[name])
    py_utils.GetOrCreateGlobalStepVar().assign(3)

  def _step(self):
    with py_utils.GradientTape(persistent=True) as tape:
      metrics = self._case.metrics(self.layer)
    return dict(metrics), tape.gradient(metrics['loss'][0], self._variables)

  def _eagerly(self):
    """How many cells were traced, the loss, and gradients."""
    _traced.clear()
    py_utils.ResetStepSeed(5)
    metrics, gradients = self._step()
    return len(_traced), metrics['loss'][0].numpy(), _arrays(gradients)

  def eager_steps(self):
    """Two steps alike, one of other weights, and the same of new traces."""
    results = [self._eagerly(), self._eagerly()]
    for v in self._variables.values():
      v.assign(v * 0.5)
    py_utils.GetOrCreateGlobalStepVar().assign(4)
    results.append(self._eagerly())
    self.layer.eager_traces.clear()
    results.append(self._eagerly())
    self._reset()
    return results

  def in_function(self):
    """Metrics and gradients; and the function's graph, not kept."""
    step = tf.function(self._step, autograph=False)
    metrics, gradients = step()
    metrics = {k: tuple(np.array(x) for x in v) for k, v in metrics.items()}
    graph = weakref.ref(step.get_concrete_function().graph)
    return (metrics, _arrays(gradients)), graph


_traced = []


def run(values):
  """Of the weights by model: eager steps and those of a function, by case.

  And how many functions and layers are kept that were dropped.
  """
  flags.FLAGS(sys.argv[:1])
  tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0],
    [tf.config.LogicalDeviceConfiguration()] * 4,
  )
  py_utils.SetEagerMode(True)
  tf.enable_v2_behavior()
  body = lingvo_cell.LingvoCell.body

  def counted(self, inputs):
    _traced.append(self.name)
    return body(self, inputs)

  lingvo_cell.LingvoCell.body = counted
  eager, functions, dropped = {}, {}, []
  for i, case in enumerate(CASES):
    with pt.cluster(len(case.params().cell_tpl)):
      tf.random.set_seed(7)
      runner = _Runner(case, f'net{i}', values[case.model])
      eager[case] = runner.eager_steps()
      functions[case], graph = runner.in_function()
      dropped += [graph, weakref.ref(runner.layer)]
      del runner
  gc.collect()
  return eager, functions, sum(ref() is not None for ref in dropped)
