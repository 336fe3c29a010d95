# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Summaries that layers in cells add: one for the mini-batch, outside.

Nothing would run the summary ops of a traced graph. So their data leave the
cell, and one summary of the same kind and tag is added outside:

  scalar     the mean over the micro-batches, weighted by their sizes
  histogram  of the values of all micro-batches
  others     (image, audio, text, tensor) of the first micro-batch

Tags get the name scope around, and a number if they are taken.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import lingvo.compat as tf
from lingvo.core import cluster_factory

from lingvo_gpipe.engine.tensors import on_device
from lingvo_gpipe.pipeline import seeds


@dataclasses.dataclass(frozen=True)
class Summary:
  """A summary op; `tensors` are its inputs at `slots`, without constants."""

  op: tf.Operation
  tensors: tuple[tf.Tensor, ...]
  slots: tuple[int, ...]


@contextlib.contextmanager
def traced() -> Iterator[None]:
  """To be entered while a cell is traced in eager mode."""
  # TF2 summaries are written by ops that run wherever they are traced: once
  # for each micro-batch and again when one is recomputed.
  if cluster_factory.Current().add_summary:
    tf.logging.log_first_n(
      tf.logging.WARN,
      'In eager mode summaries of layers inside pipelined cells are not '
      'written. Return the values as metrics, or train in graph mode.',
      1,
    )
  with tf.compat.v2.summary.record_if(False):
    yield


def collect(graph: tf.Graph) -> list[Summary]:
  found = []
  for tensor in graph.get_collection(tf.GraphKeys.SUMMARIES):
    op = tensor.op
    if op.graph is not graph:
      continue
    inputs = enumerate(op.inputs)
    slots = [i for i, x in inputs if tf.get_static_value(x) is None]
    tensors = tuple(tf.stop_gradient(op.inputs[i]) for i in slots)
    found.append(Summary(op, tensors, tuple(slots)))
  graph.clear_collection(tf.GraphKeys.SUMMARIES)
  return found


def emit(
  summaries: Sequence[Summary],
  micro_batches: Sequence[Sequence[Sequence[tf.Tensor]]],
  shares: Sequence[tf.Tensor],
  device: str,
) -> None:
  taken = {_tag(t.op) for t in tf.get_collection(tf.GraphKeys.SUMMARIES)}
  for i, summary in enumerate(summaries):
    tag = _unique_tag(_tag(summary.op), taken)
    taken.add(tag)
    columns = zip(*(tensors[i] for tensors in micro_batches), strict=True)
    with on_device(device):
      merged = [_merge(summary.op.type, column, shares) for column in columns]
      again = _recreate(summary, merged, tag)
    tf.add_to_collection(tf.GraphKeys.SUMMARIES, again)


def _merge(
  op_type: str, parts: Sequence[tf.Tensor], shares: Sequence[tf.Tensor]
) -> tf.Tensor:
  if op_type == 'ScalarSummary' and parts[0].dtype.is_floating:
    stacked = tf.stack(parts)
    weights = tf.cast(tf.stack(shares), stacked.dtype)
    return tf.tensordot(weights, stacked, 1)
  if op_type == 'HistogramSummary':
    return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)
  return parts[0]


def _tag(op: tf.Operation) -> str | None:
  value = tf.get_static_value(op.inputs[0]) if op.inputs else None
  if value is None or value.dtype != object or value.size != 1:
    return None
  return seeds.without_op_scopes(value.item().decode())


def _unique_tag(tag: str | None, taken: set[str | None]) -> str | None:
  if tag is None:
    return None
  scope = tf.get_default_graph().get_name_scope()
  tag = f'{scope}/{tag}' if scope else tag
  numbered = (f'{tag}_{i}' for i in itertools.count(1))
  return next(t for t in itertools.chain([tag], numbered) if t not in taken)


def _recreate(
  summary: Summary, tensors: Sequence[tf.Tensor], tag: str | None
) -> tf.Tensor:
  given = dict(zip(summary.slots, tensors, strict=True))
  if tag is not None:
    given[0] = tf.constant(tag)
  inputs = [
    given[i] if i in given else tf.constant(tf.get_static_value(value))
    for i, value in enumerate(summary.op.inputs)
  ]
  op = tf.get_default_graph().create_op(
    summary.op.type,
    inputs,
    [output.dtype for output in summary.op.outputs],
    attrs=dict(summary.op.node_def.attr),
    name=summary.op.name.rpartition('/')[2],
  )
  return op.outputs[0]
