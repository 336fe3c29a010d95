# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batch norm's moving averages: updated once a step, from all micro-batches.

In training batch norm sees one micro-batch at a time. Its moving averages,
which evaluation uses, move once a mini-batch, by the mean of what the
micro-batches would have moved them, weighted by their sizes.
"""

from collections.abc import Sequence

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.engine import graph_function
from lingvo_gpipe.engine.cell_function import Context
from lingvo_gpipe.engine.tensors import on_device
from lingvo_gpipe.pipeline.variable_stand_in import MovingAverageUpdate


def pack(
  updates: Sequence[MovingAverageUpdate], context: Context
) -> list[tf.Tensor]:
  """A micro-batch's updates, weighted by its share, as two float vectors.

  They are all deltas and all statistics, flattened and joined.
  """
  dtype = tf.float32
  if any(u.delta.dtype == tf.float64 for u in updates):
    dtype = tf.float64
  share = tf.cast(context.share, dtype)
  vectors = []
  for parts in ([u.delta for u in updates], [u.statistic for u in updates]):
    flat = [tf.reshape(tf.cast(part, dtype), [-1]) for part in parts]
    vectors.append(tf.stop_gradient(share * tf.concat(flat, axis=0)))
  return vectors


def sum_in_order(
  name: str, micro_batches: Sequence[Sequence[tf.Tensor]]
) -> list[tf.Tensor]:
  """Adds up the tensors of all micro-batches, by ascending micro-batch.

  It is one function, whose order of summation TensorFlow does not change by
  where the tensors come from.
  """
  count = len(micro_batches[0])
  flat = [tensor for tensors in micro_batches for tensor in tensors]

  def add(*args: tf.Tensor) -> list[tf.Tensor]:
    sums = list(args[:count])
    for first in range(count, len(args), count):
      sums = [
        total + part
        for total, part in zip(sums, args[first : first + count], strict=True)
      ]
    return sums

  specs = [tf.TensorSpec(t.shape, t.dtype) for t in flat]
  return graph_function.as_function(name, add, specs)(flat)


def update(
  updates: Sequence[MovingAverageUpdate],
  packed: Sequence[Sequence[tf.Tensor]],
  device: str,
) -> list[tf.Tensor]:
  """Updates the moving averages of a cell, the way Lingvo's learner expects.

  Args:
    updates: What the cell's layers noted while it was traced. Only the
      variables and shapes are used.
    packed: For each micro-batch, what `pack` returned.
    device: The cell's device.

  Returns:
    The statistics of the mini-batch. Make the loss depend on them: Lingvo
    drops updates whose statistic it does not find before the loss.
  """
  with on_device(device):
    deltas, statistics = sum_in_order('moving_averages', packed)
    sizes = [u.delta.shape.num_elements() for u in updates]
    all_deltas = tf.split(deltas, sizes)
    all_statistics = tf.split(statistics, sizes)
    for noted, delta, statistic in zip(
      updates, all_deltas, all_statistics, strict=True
    ):
      _apply(noted, delta, statistic)
  return all_statistics


def _apply(
  noted: MovingAverageUpdate, delta: tf.Tensor, statistic: tf.Tensor
) -> None:
  """Subtracts a delta, and registers that as Lingvo does."""
  variable = noted.variable
  shape = noted.delta.shape.as_list()
  delta = tf.cast(tf.reshape(delta, shape), variable.dtype.base_dtype)
  with on_device(variable.device):
    assigned = tf.assign_sub(variable, delta)
  tf.add_to_collection(py_utils.BATCH_NORM_UPDATES, assigned)
  if not tf.executing_eagerly_outside_functions():
    registered = py_utils._get_batch_norm_updates_dict()
    registered[assigned.name] = (variable, statistic)
