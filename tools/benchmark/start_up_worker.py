# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What `start_up` measures, each in a process of its own."""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import lingvo.compat as tf
import numpy as np
from lingvo.core import cluster_factory, py_utils

from tools.benchmark import case_model, process_memory, train_step
from tools.benchmark.cases import Case
from tools.benchmark.variants import Variant

_STEPS = 5


def start(case: Case, variant: Variant) -> dict[str, float]:
  """CPU seconds of a start, in graph mode.

  'building' is from nothing to a session with initialised weights, 'first' the
  first step, 'step' one after that.
  """
  tf.disable_eager_execution()
  splits = _splits(case, variant.num_cells)
  begun = time.process_time()
  step = train_step.TrainStep(case, variant, splits)
  return {
    'building': time.process_time() - begun,
    'first': _seconds(step.run),
    'step': statistics.median(_seconds(step.run) for _ in range(_STEPS)),
  }


def graph(case: Case, variant: Variant, number: int) -> float:
  """Bytes kept of a graph."""
  tf.disable_eager_execution()
  splits = _splits(case, variant.num_cells)
  return _growth(
    lambda _: train_step.TrainStep(case, variant, splits).run(), number
  )


def function(case: Case, variant: Variant, number: int) -> float:
  """Bytes kept of a shape in a tf.function."""
  step = tf.function(_eager_step_of(case, variant), autograph=False)
  batch = variant.num_micro_batches
  return _growth(lambda i: step(_inputs(case, batch * (i + 1))), number)


def eager(case: Case, variant: Variant) -> float:
  """CPU seconds of a step outside of any tf.function, once one has run."""
  step = _eager_step_of(case, variant)
  x = _inputs(case, case.batch)
  step(x)
  return statistics.median(_seconds(lambda: step(x)) for _ in range(_STEPS))


def _seconds(action: Callable[[], Any]) -> float:
  """CPU seconds of all threads of this process."""
  begun = time.process_time()
  action()
  return time.process_time() - begun


def _splits(case: Case, num_cells: int) -> list[int]:
  """Cells of about the same number of layers."""
  number = len(case_model.make(case).layers)
  return [round(k * number / num_cells) for k in range(1, num_cells)]


def _inputs(case: Case, batch: int) -> Any:
  return tf.constant(np.ones((batch, case.dim), np.float32))


def _growth(action: Callable[[int], Any], number: int) -> float:
  """By how many bytes the process grows with each of the last half of calls."""
  first = number // 2
  for i in range(number):
    if i == first:
      gc.collect()
      before = process_memory.anonymous_bytes()
    action(i)
  gc.collect()
  return (process_memory.anonymous_bytes() - before) / (number - first)


def _eager_step_of(case: Case, variant: Variant) -> Callable[[Any], Any]:
  """Loss and gradients of the case's model, in Lingvo's eager mode."""
  cpu = tf.config.list_physical_devices('CPU')[0]
  tf.config.set_logical_device_configuration(
    cpu, [tf.config.LogicalDeviceConfiguration()] * variant.num_cells
  )
  py_utils.SetEagerMode(True)
  tf.enable_v2_behavior()
  cluster = cluster_factory.ForTestingWorker(
    mode='sync',
    job='trainer_client',
    cpus=variant.num_cells,
    split_size=variant.num_cells,
  )
  # For as long as the process runs.
  cluster.__enter__()
  py_utils.GetOrCreateGlobalStepVar()
  layer = train_step.pipeline_params(
    case_model.make(case), variant, _splits(case, variant.num_cells), 'net'
  ).Instantiate()
  variables = layer.vars.Flatten()

  def step(x: Any) -> Any:
    with py_utils.GradientTape(persistent=True) as tape:
      if variant.method.engine == 'plain':
        [cell] = layer.cells
        outputs = cell.FProp(layer.theta[cell.params.name], x)
        metrics = layer.loss.FProp(layer.theta.loss, outputs, None)
      else:
        metrics = layer.ComputeLoss(layer.theta, x, None)
      loss = metrics['loss'][0]
    return loss, tape.gradient(loss, variables)

  return step
