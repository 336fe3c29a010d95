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
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graphs
from lingvo_gpipe.engine.tensors import barrier, on_device, spec, sum_dtype


@dataclasses.dataclass(frozen=True)
class MicroBatchSizes:
  """Examples in a mini-batch, and in each of its micro-batches.

  If the graph does not know `batch`, all are None, until run time.
  """

  batch: int | None
  sizes: tuple[int | None, ...]

  @property
  def count(self) -> int:
    return len(self.sizes)


def choose_sizes(
  batch: int | None, count: int | None, size: int | None
) -> MicroBatchSizes:
  """Decides the size of each micro-batch of a batch, if that is known.

  Raises ValueError if `count` and `size`, of which one may be None, contradict
  each other, or not enough is known.
  """
  if batch is None:
    if count is None:
      raise ValueError(
        f'micro_batch_size is {size}, but the size of the mini-batch is not '
        'known when the graph is built: set num_micro_batches, or give the '
        'input a static batch size.'
      )
    return MicroBatchSizes(None, (None,) * count)
  if batch < 1:
    raise ValueError(
      f'The mini-batch has {batch} examples; it needs at least one.'
    )
  if size is not None:
    full, rest = divmod(batch, size)
    sizes = (size,) * full + (rest,) * (rest > 0)
    if count not in (None, len(sizes)):
      raise ValueError(
        f'num_micro_batches is {count} and micro_batch_size is {size}, but a '
        f'mini-batch of {batch} makes {len(sizes)} micro-batches of that size: '
        f'set num_micro_batches to {len(sizes)}, or leave one of the two out.'
      )
    return MicroBatchSizes(batch, sizes)
  assert count is not None
  count = min(count, batch)
  small, larger = divmod(batch, count)
  sizes = (small + 1,) * larger + (small,) * (count - larger)
  return MicroBatchSizes(batch, sizes)


class Context(NamedTuple):
  """Where in the training a task is: int64 scalars, given as one vector.

  So it depends on the global step: TensorFlow would bake a constant argument
  into a copy of the function for each micro-batch. `seed` is the step seed
  around the pipeline, `batch` the size of the mini-batch.
  """

  step: tf.Tensor
  seed: tf.Tensor
  micro_batch: tf.Tensor
  size: tf.Tensor
  batch: tf.Tensor

  @property
  def share(self) -> tf.Tensor:
    """The micro-batch's share of the mini-batch's examples, float32."""
    return _share(self.size, self.batch)


CONTEXT_SPEC = tf.TensorSpec([5], tf.int64)


def _share(size: Any, batch: tf.Tensor) -> tf.Tensor:
  return tf.cast(size, tf.float32) / tf.cast(batch, tf.float32)


@dataclasses.dataclass
class Clock:
  """Where in the training the mini-batch is: int64 scalars; see `Context`."""

  step: tf.Tensor
  seed: tf.Tensor
  sizes: Sequence[Any]
  batch: tf.Tensor

  def contexts_on(self, device: str) -> list[tf.Tensor]:
    """The vector of each micro-batch's `Context`."""
    count = len(self.sizes)
    with on_device(device):
      numbers = tf.range(count, dtype=tf.int64)
      sizes = tf.convert_to_tensor(self.sizes, tf.int64)
      rows = [self.step, self.seed, numbers, sizes, self.batch]
      rows = [tf.broadcast_to(row, [count]) for row in rows]
      return tf.unstack(tf.stack(rows, axis=1), num=count)

  def share(self, micro_batch: int) -> tf.Tensor:
    return _share(self.sizes[micro_batch], self.batch)


def batch_size(
  leaves: Sequence[tuple[str, tf.Tensor, int]],
) -> tuple[int | None, tuple[str, tf.Tensor, int]]:
  """The number of examples, None if it is not known, and the leaf that has it.

  Leaves are the name of a tensor, the tensor, and the dimension that counts.
  Raises ValueError if they have no such dimension, or disagree.
  """
  remedy = (
    ' Name in shared_inputs what belongs to all examples alike and must not be '
    'split.'
  )
  if not leaves:
    raise ValueError('The pipeline was given no tensor to cut.')
  known: dict[int, tuple[str, tf.Tensor, int]] = {}
  for name, tensor, dim in leaves:
    if tensor.shape.rank is None:
      continue
    if tensor.shape.rank <= dim:
      raise ValueError(
        f'{name} of shape {tensor.shape} has no dimension {dim} (batch_dim) to '
        f'cut into micro-batches.{remedy}'
      )
    size = tensor.shape.as_list()[dim]
    if size is not None:
      known.setdefault(size, (name, tensor, dim))
  if len(known) > 1:
    raise ValueError(
      f'The tensors differ in dimension {leaves[0][2]} (batch_dim): '
      + '; '.join(f'{name} of shape {t.shape}' for name, t, _ in known.values())
      + f'. All need the same number of examples.{remedy}'
    )
  return next(iter(known.items()), (None, leaves[0]))


# Which dimension of each tensor of a nest counts the examples, in flat order;
# None for a tensor that has none, and is the same for all micro-batches.
Dims = Sequence[int | None]


def split(
  nest: Any, dims: Dims, sizes: MicroBatchSizes, run_time_sizes: Any = None
) -> list[Any]:
  """Cuts every tensor of a nest into M, behind barriers; a None stays None.

  Where `sizes` are not known, those from `sizes_at_run_time` are used.
  """
  flat = tf.nest.flatten(nest)
  parts = run_time_sizes if sizes.batch is None else list(sizes.sizes)
  columns = []
  for tensor, dim in zip(flat, dims, strict=True):
    if tensor is None or dim is None or sizes.count == 1:
      columns.append([tensor] * sizes.count)
    else:
      columns.append(tf.split(tensor, parts, axis=dim, num=sizes.count))
  return [
    barrier(tf.nest.pack_sequence_as(nest, [column[m] for column in columns]))
    for m in range(sizes.count)
  ]


def sizes_at_run_time(
  count: int, batch: tf.Tensor, may_be_empty: bool, what: str
) -> tf.Tensor:
  """The M sizes, an int64 vector, for a batch known at run time only.

  If the batch is smaller than `count`, some are 0, or running the op fails if
  they may not be empty: a mean over no example is NaN.
  """
  message = (
    f'{what}: the mini-batch has fewer examples than num_micro_batches '
    f'({count}), and its size is known only when a step runs. Use larger '
    'batches in training, in all buckets, or fewer micro-batches.'
  )
  check = None
  if not may_be_empty:
    least = tf.constant(count, tf.int64)
    check = tf.debugging.assert_greater_equal(batch, least, message=message)
  with tf.control_dependencies([] if check is None else [check]):
    numbers = tf.range(count, dtype=tf.int64)
    return batch // count + tf.cast(numbers < batch % count, tf.int64)


def merge(
  nests: Sequence[Any],
  dims: Dims,
  without_dim: Callable[[Sequence[tf.Tensor]], tf.Tensor] = itemgetter(0),
) -> Any:
  """Joins micro-batches; `without_dim` is for tensors that are not cut."""
  columns = zip(*(tf.nest.flatten(nest) for nest in nests), strict=True)
  joined = []
  for column, dim in zip(columns, dims, strict=True):
    if column[0] is None or len(column) == 1:
      joined.append(column[0])
    elif dim is None:
      joined.append(without_dim(column))
    else:
      joined.append(tf.concat(column, axis=dim))
  return tf.nest.pack_sequence_as(nests[0], joined)


def merge_gradients(nests: Sequence[Any], dims: Dims) -> Any:
  """The gradient of `split`; of half-precision shared ones in float32."""

  def total(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    wide = sum_dtype(parts[0].dtype)
    return sum_in_order('sum_shared', [[tf.cast(p, wide)] for p in parts])[0]

  return merge(nests, dims, total)


def sum_in_order(
  name: str, micro_batches: Sequence[Sequence[tf.Tensor]]
) -> list[tf.Tensor]:
  """Adds up the tensors of all micro-batches, in order, in one function."""
  count = len(micro_batches[0])
  flat = [tensor for tensors in micro_batches for tensor in tensors]

  def add(*args: tf.Tensor) -> list[tf.Tensor]:
    sums = list(args[:count])
    for i, part in enumerate(args[count:]):
      sums[i % count] += part
    return sums

  return graphs.as_function(name, add, list(map(spec, flat)))(flat)


def split_gradients(
  gradients: Sequence[tf.Tensor],
  nests: Sequence[Sequence[tf.Tensor]],
  dims: Dims,
) -> list[list[tf.Tensor]]:
  """Cuts gradients of what `merge` made of flat `nests`."""
  columns = []
  for gradient, parts, dim in zip(
    gradients, zip(*nests, strict=True), dims, strict=True
  ):
    if len(parts) == 1:
      columns.append([gradient])
    elif dim is None:
      # The first micro-batch's tensor stands for all.
      columns.append([gradient, *(tf.zeros_like(part) for part in parts[1:])])
    else:
      lengths: Any = [tf.dimension_value(part.shape[dim]) for part in parts]
      if None in lengths:
        lengths = tf.stack([tf.shape(part)[dim] for part in parts])
      columns.append(tf.split(gradient, lengths, axis=dim, num=len(parts)))
  return [barrier([column[m] for column in columns]) for m in range(len(nests))]
