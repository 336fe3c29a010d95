# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules of small cells, emitted into a graph."""

import collections
import re

import numpy as np
import tensorflow.compat.v1 as tf

from lingvo_gpipe import schedules
from lingvo_gpipe.engine import engine, tensors
from lingvo_gpipe.engine.cell_function import Cell, CellOutputs
from lingvo_gpipe.engine.micro_batches import Clock
from lingvo_gpipe.engine.traced_cells import TracedCells

WIDTH = 4
DEVICES = [f'/job:localhost/replica:0/task:0/device:CPU:{k}' for k in range(4)]


def dense(num_layers=1):
  def body(given):
    x = given.inputs
    for _ in range(num_layers):
      for weight in given.weights:
        x = tf.tanh(tf.matmul(x, weight))
    return CellOutputs(x)

  return body


def cell(k, body, num_weights=1, device=None, **kwargs):
  device = device or DEVICES[k]
  with tf.device(device):
    weights = [
      tf.get_variable(f'w{k}_{i}', [WIDTH, WIDTH], use_resource=True)
      for i in range(num_weights)
    ]
  return Cell(f'd{k}', device, body, weights, **kwargs)


def rows(num_micro_batches):
  values = np.random.RandomState(0).randn(num_micro_batches, 2, WIDTH)
  return [tf.constant(row, tf.float32) for row in values]


def clock(num_micro_batches):
  zero = tf.constant(0, tf.int64)
  batch = tf.constant(2 * num_micro_batches, tf.int64)
  return Clock(zero, zero, [2] * num_micro_batches, batch)


def emit(cells, inputs, schedule='gpipe', recompute='always', **kwargs):
  """Engine, gradients and schedule, all emitted, for the loss sum(outputs)."""
  devices = tensors.device_indices([cell.device for cell in cells])
  plan = schedules.make_schedule(schedule, devices, len(inputs), **kwargs)
  traced = TracedCells(cells, plan, inputs)
  recomputed = schedules.recomputed(plan, recompute)
  made = engine.Engine(traced, clock(len(inputs)), recomputed)
  start = engine.LossGradients(
    lambda m: [tf.ones_like(made.results(len(cells) - 1, m).outputs)]
  )
  return made, engine.run_tasks(made, plan.in_order(), start), plan


def calls(graph):
  """The calls of the cells' functions, by task: name scope 'cell_kindM'."""
  found = collections.defaultdict(list)
  for op in graph.get_operations():
    if 'PartitionedCall' in op.type:
      found[op.name.partition('/')[0]].append(op)
  return found


def num_ran(metadata, op_type):
  labels = {
    (node.node_name, node.all_start_nanos, node.timeline_label)
    for device in metadata.step_stats.dev_stats
    for node in device.node_stats
    # Of any variant, such as oneDNN's _MklMatMul.
    if re.search(rf' = \w*{op_type}\(', node.timeline_label)
  }
  return len(labels)


def run(fetches, op_type):
  metadata = tf.RunMetadata()
  options = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
  config = tf.ConfigProto(device_count={'CPU': len(DEVICES)})
  with tf.Session(config=config) as session:
    session.run(tf.global_variables_initializer())
    values = session.run(fetches, options=options, run_metadata=metadata)
  return values, num_ran(metadata, op_type)
