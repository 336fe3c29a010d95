# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts a mini-batch into micro-batches, and joins them again.

By count, the sizes differ by at most one, the larger ones first; by size, all
are equal but the last:

```
  batch of 10, count 4:  3 3 2 2
  batch of 10, size 4:   4 4 2
```
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine.barrier import barrier


@dataclasses.dataclass(frozen=True)
class MicroBatchSizes:
  """How a mini-batch is cut.

  Attributes:
    batch: Examples in the mini-batch; None if the graph does not know.
    sizes: Examples in each micro-batch, None each if `batch` is None: the M
      sizes are then worked out at run time, by count.
  """

  batch: int | None
  sizes: tuple[int | None, ...]

  @property
  def count(self) -> int:
    return len(self.sizes)

  @property
  def known(self) -> bool:
    return self.batch is not None


def choose_sizes(
  batch: int | None, count: int | None, size: int | None
) -> MicroBatchSizes:
  """Decides the size of each micro-batch.

  Args:
    batch: Examples in the mini-batch; None if not known when the graph is
      built.
    count: num_micro_batches, M; None to go by size. A `batch` smaller than M
      makes `batch` micro-batches of one example each.
    size: micro_batch_size; None to go by count.

  Raises:
    ValueError: Neither is given, one is below 1, both are given and contradict
      the batch, or only the size is given and the batch is not known.
  """
  for name, value in (('num_micro_batches', count), ('micro_batch_size', size)):
    if value is not None and value < 1:
      raise ValueError(f'{name} is {value}; it must be at least 1.')
  if batch is not None and batch < 1:
    raise ValueError(f'The mini-batch has {batch} examples; it needs one.')
  if count is None and size is None:
    raise ValueError('Set num_micro_batches or micro_batch_size.')
  if batch is None:
    if count is None:
      raise ValueError(
        f'micro_batch_size is {size}, but the size of the mini-batch is not '
        'known when the graph is built, so the number of micro-batches is not '
        'either: set num_micro_batches, or give the input a static batch size.'
      )
    return MicroBatchSizes(None, (None,) * count)
  if size is not None:
    return _sizes_by_size(batch, count, size)
  assert count is not None
  count = min(count, batch)
  small, larger = divmod(batch, count)
  sizes = (small + 1,) * larger + (small,) * (count - larger)
  return MicroBatchSizes(batch, sizes)


def _sizes_by_size(batch: int, count: int | None, size: int) -> MicroBatchSizes:
  full, rest = divmod(batch, size)
  sizes = (size,) * full + ((rest,) if rest else ())
  if count is not None and count != len(sizes):
    raise ValueError(
      f'num_micro_batches is {count} and micro_batch_size is {size}, but a '
      f'mini-batch of {batch} makes {len(sizes)} micro-batches of that size: '
      f'set num_micro_batches to {len(sizes)}, or leave one of the two out.'
    )
  return MicroBatchSizes(batch, sizes)


def batch_size(nest: Any, batch_dim: int) -> tuple[int | None, tf.Tensor]:
  """The number of examples in the tensors of a nest.

  Args:
    nest: Tensors, or None, in any nest.
    batch_dim: Which of their dimensions counts the examples.

  Returns:
    The size if it is known, else None; and one of the tensors, whose size it
    is at run time.

  Raises:
    ValueError: A tensor has no such dimension, two disagree, or there is none.
  """
  known: dict[int, tf.Tensor] = {}
  first = None
  for tensor in tf.nest.flatten(nest):
    if tensor is None:
      continue
    first = tensor if first is None else first
    rank = tensor.shape.rank
    if rank is not None and rank <= batch_dim:
      raise ValueError(
        f'{_describe(tensor)} has no dimension {batch_dim} (batch_dim) to cut '
        'into micro-batches. What all micro-batches share belongs in a weight '
        'or a constant of the layer; a scalar can be repeated for each example.'
      )
    size = None if rank is None else tensor.shape.as_list()[batch_dim]
    if size is not None:
      known.setdefault(size, tensor)
  if first is None:
    raise ValueError('The pipeline was given no tensor to cut.')
  if len(known) > 1:
    raise ValueError(
      f'The tensors differ in dimension {batch_dim} (batch_dim): '
      + '; '.join(_describe(t) for t in known.values())
      + '. All need the same number of examples.'
    )
  return next(iter(known), None), first


def _describe(tensor: tf.Tensor) -> str:
  return f'{tensor.name} of shape {tensor.shape}'


def split(
  nest: Any, batch_dim: int, sizes: MicroBatchSizes, run_time_sizes: Any = None
) -> list[Any]:
  """Cuts every tensor of a nest; a None stays None in each part.

  Args:
    nest: Tensors, or None, in any nest.
    batch_dim: The dimension to cut.
    sizes: How.
    run_time_sizes: What `sizes_at_run_time` returned; needed where `sizes`
      does not know them.

  Returns:
    M nests of the same structure, behind barriers: TensorFlow makes a copy of
    a function for each constant that it finds among its arguments.
  """
  flat = tf.nest.flatten(nest)
  columns = []
  for tensor in flat:
    if tensor is None:
      columns.append([None] * sizes.count)
    elif sizes.count == 1:
      columns.append([tensor])
    else:
      parts = list(sizes.sizes) if sizes.known else run_time_sizes
      columns.append(tf.split(tensor, parts, axis=batch_dim, num=sizes.count))
  return [
    barrier(tf.nest.pack_sequence_as(nest, [column[m] for column in columns]))
    for m in range(sizes.count)
  ]


def sizes_at_run_time(
  count: int, batch: tf.Tensor, may_be_empty: bool
) -> tf.Tensor:
  """The M sizes, an int64 vector, for a batch known at run time only.

  Args:
    count: M.
    batch: The number of examples, an int64 scalar.
    may_be_empty: Whether micro-batches may be empty, if the batch is smaller
      than M. If not, running the op fails then: a mean over no example is NaN.
  """
  larger = tf.cast(tf.range(count, dtype=tf.int64) < batch % count, tf.int64)
  if may_be_empty:
    return batch // count + larger
  check = tf.debugging.assert_greater_equal(
    batch,
    tf.constant(count, tf.int64),
    message=(
      f'The mini-batch has fewer examples than num_micro_batches ({count}); '
      'use a larger batch or fewer micro-batches.'
    ),
  )
  with tf.control_dependencies([] if check is None else [check]):
    return batch // count + larger


def merge(nests: Sequence[Any], batch_dim: int) -> Any:
  """Joins the nests of all micro-batches into one, along `batch_dim`.

  Raises:
    ValueError: A tensor has no such dimension.
  """
  columns = zip(*(tf.nest.flatten(nest) for nest in nests), strict=True)
  merged = []
  for column in columns:
    if column[0] is None:
      merged.append(None)
      continue
    rank = column[0].shape.rank
    if rank is not None and rank <= batch_dim:
      raise ValueError(
        f'The last cell returns a tensor of shape {column[0].shape}, which has '
        f'no dimension {batch_dim} (batch_dim) along which to join the '
        'micro-batches. Return one value for each example, or compute a loss '
        'in the pipeline by loss_tpl.'
      )
    merged.append(
      column[0] if len(column) == 1 else tf.concat(column, axis=batch_dim)
    )
  return tf.nest.pack_sequence_as(nests[0], merged)
