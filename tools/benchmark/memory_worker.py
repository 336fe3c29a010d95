# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A process that measures the peak memory of K workers, one cell each.

It forks the workers, runs training steps on them, and writes a line for each
case: each worker's peak above its idle level, in bytes, a JSON list.
"""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence

import lingvo.compat as tf
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe import pipelining_layer
from tools.benchmark import (
  bottleneck,
  process_memory,
  worker_servers,
)
from tools.benchmark.memory_prediction import MemoryCase

_STEPS = 1
_LEARNING_RATE = 0.01
# Freed memory has gone back after this.
_SETTLE_SECONDS = 0.3


class _WorkersPipeline(pipelining_layer.PipeliningLayer):
  """A pipeline whose cell k is on worker k."""

  def _CellDevices(self):
    return [
      worker_servers.worker_device(k) for k in range(len(self.params.cell_tpl))
    ]


def _params(case: MemoryCase):
  widths = [case.input_dim] + [case.dim] * case.num_cells
  cells = [
    bottleneck.Bottleneck.Params().Set(
      name=f'cell{k}',
      input_dim=widths[k],
      hidden_dim=case.hidden_dim,
      output_dim=case.dim,
    )
    for k in range(case.num_cells)
  ]
  return _WorkersPipeline.Params().Set(
    name='net',
    cell_tpl=cells,
    num_micro_batches=case.num_micro_batches,
    schedule=case.schedule,
    loss_tpl=bottleneck.SquaredError.Params().Set(name='loss'),
  )


def _train_op(case: MemoryCase) -> tf.Operation:
  """Builds a training step in the current graph."""
  step = py_utils.GetOrCreateGlobalStepVar()
  layer = _params(case).Instantiate()
  first, last = layer.cell_devices[0], layer.cell_devices[-1]
  # The data depend on the step, or they would be computed once and kept.
  with tf.device(first):
    x = tf.random.stateless_normal(
      [case.batch, case.input_dim], tf.stack([step, 1])
    )
  with tf.device(last):
    targets = tf.random.stateless_normal([case.batch], tf.stack([step, 2]))
  loss = layer.ComputeLoss(layer.theta, x, targets)['loss'][0]
  variables = tf.trainable_variables()
  updates = []
  for variable, gradient in zip(
    variables, tf.gradients(loss, variables), strict=True
  ):
    with tf.device(variable.device):
      updates.append(tf.assign_sub(variable, _LEARNING_RATE * gradient))
  return tf.group(*updates)


def _run(case: MemoryCase, pids: list[int], target: str) -> list[int]:
  """Runs steps; returns each worker's peak above its idle level."""
  cluster = cluster_factory.ForTestingWorker(mode='sync', job='trainer_client')
  time.sleep(_SETTLE_SECONDS)
  idle = [process_memory.resident_bytes(pid) for pid in pids]
  for pid in pids:
    process_memory.reset_peak(pid)
  with cluster, tf.Graph().as_default():
    train = _train_op(case)
    with tf.compat.v1.Session(target) as session:
      session.run(tf.global_variables_initializer())
      for _ in range(_STEPS):
        session.run(train)
      peaks = [process_memory.peak_bytes(pid) for pid in pids]
    # The variables outlive the session.
    tf.compat.v1.Session.reset(target)
  return [peak - level for peak, level in zip(peaks, idle, strict=True)]


def run(cases: Sequence[MemoryCase]) -> None:
  """Measures cases, and writes a line for each."""
  replies = os.fdopen(os.dup(1), 'w')
  # What libraries print is not to be taken for a reply.
  os.dup2(2, 1)
  with worker_servers.worker_servers(cases[0].num_cells) as (pids, target):
    # Code comes to memory with a first run, on almost no data, and with it the
    # room that the largest graph takes: both are part of the idle level.
    largest = max(cases, key=lambda case: case.num_micro_batches)
    small = {'batch': largest.num_micro_batches, 'dim': 8, 'hidden_dim': 8}
    _run(dataclasses.replace(largest, **small), pids, target)
    for case in cases:
      replies.write(json.dumps(_run(case, pids, target)) + '\n')
      replies.flush()


if __name__ == '__main__':
  from absl import flags

  flags.FLAGS(sys.argv[:1])
  tf.disable_eager_execution()
  run([MemoryCase(**case) for case in json.loads(sys.argv[1])])
