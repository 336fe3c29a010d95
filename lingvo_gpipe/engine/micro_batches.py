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
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_function
from lingvo_gpipe.engine.tensors import barrier, on_device, spec, sum_dtype


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

  One of `count` and `size` is given, or both.

  Args:
    batch: Examples in the mini-batch; None if the graph does not know.
    count: num_micro_batches, M; None to go by size. A `batch` smaller than M
      makes `batch` micro-batches of one example each.
    size: micro_batch_size; None to go by count.

  Raises:
    ValueError: The batch is empty, both are given and contradict it, or only
      the size is given and the batch is not known.
  """
  if count is not None and count < 1:
    raise ValueError(f'num_micro_batches is {count}; it must be at least 1.')
  if batch is not None and batch < 1:
    raise ValueError(
      f'The mini-batch has {batch} examples; it needs at least one.'
    )
  if batch is None:
    if count is None:
      raise ValueError(
        f'micro_batch_size is {size}, but the size of the mini-batch is not '
        'known when the graph is built, so the number of micro-batches is not '
        'known either: set num_micro_batches, or give the input a static batch '
        'size.'
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


@dataclasses.dataclass
class Clock:
  """Where in the training the mini-batch is.

  Attributes:
    step: The global step, an int64 scalar.
    seed: The step seed around the pipeline, an int64 scalar.
    sizes: The micro-batches' sizes: ints, or int64 scalars.
    batch: The mini-batch's size, an int64 scalar.
  """

  step: tf.Tensor
  seed: tf.Tensor
  sizes: Sequence[Any]
  batch: tf.Tensor

  def contexts_on(self, device: str) -> list[tf.Tensor]:
    """Each micro-batch's context, an int64 vector; see `cell_function.Context`.

    All depend on the global step: TensorFlow makes a copy of a function for
    each constant among its arguments.
    """
    count = len(self.sizes)
    with on_device(device):
      zero = tf.zeros([], tf.int64)
      base = tf.stack([self.step, self.seed, zero, zero, self.batch])
      numbers = tf.range(count, dtype=tf.int64)
      zeros = tf.zeros([count], tf.int64)
      if all(isinstance(size, int) for size in self.sizes):
        sizes = tf.constant(self.sizes, tf.int64)
      else:
        sizes = tf.stack([tf.cast(size, tf.int64) for size in self.sizes])
      offsets = tf.stack([zeros, zeros, numbers, sizes, zeros], axis=1)
      return tf.unstack(base + offsets, num=count)

  def share(self, micro_batch: int) -> tf.Tensor:
    """A micro-batch's share of the mini-batch's examples, float32."""
    size = tf.cast(self.sizes[micro_batch], tf.float32)
    return size / tf.cast(self.batch, tf.float32)


def batch_size(
  leaves: Sequence[tuple[str, tf.Tensor, int]],
) -> tuple[int | None, tuple[str, tf.Tensor, int]]:
  """The number of examples, and the leaf whose size it is.

  Args:
    leaves: For each tensor its name, itself, and the dimension that counts.

  Returns:
    The number, None if the graph does not know it; and one of `leaves`.

  Raises:
    ValueError: A tensor has no such dimension, two disagree, or there is none.
  """
  remedy = (
    ' Name in shared_inputs what belongs to all examples alike and must not be '
    'split.'
  )
  known: dict[int, tuple[str, tf.Tensor, int]] = {}
  for leaf in leaves:
    name, tensor, dim = leaf
    rank = tensor.shape.rank
    if rank is not None and rank <= dim:
      raise ValueError(
        f'{name} of shape {tensor.shape} has no dimension {dim} (batch_dim) to '
        f'cut into micro-batches.{remedy}'
      )
    size = None if rank is None else tensor.shape.as_list()[dim]
    if size is not None:
      known.setdefault(size, leaf)
  if not leaves:
    raise ValueError('The pipeline was given no tensor to cut.')
  if len(known) > 1:
    raise ValueError(
      f'The tensors differ in dimension {leaves[0][2]} (batch_dim): '
      + '; '.join(f'{name} of shape {t.shape}' for name, t, _ in known.values())
      + f'. All need the same number of examples.{remedy}'
    )
  if not known:
    return None, leaves[0]
  [(size, leaf)] = known.items()
  return size, leaf


# Which dimension of each tensor of a nest counts the examples, in flat order;
# None for a tensor that has none, and is the same for all micro-batches.
Dims = Sequence[int | None]


def split(
  nest: Any, dims: Dims, sizes: MicroBatchSizes, run_time_sizes: Any = None
) -> list[Any]:
  """Cuts every tensor of a nest into M; a None stays None in each part.

  The parts are behind barriers: TensorFlow makes a copy of a function for each
  constant that it finds among its arguments.

  Args:
    nest: Tensors, or None, in any nest.
    dims: Where; a tensor without such a dimension goes whole into each part.
    sizes: How.
    run_time_sizes: By `sizes_at_run_time`, where `sizes` does not know them.
  """
  flat = tf.nest.flatten(nest)
  parts = list(sizes.sizes) if sizes.known else run_time_sizes
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
  larger = tf.cast(tf.range(count, dtype=tf.int64) < batch % count, tf.int64)
  if may_be_empty:
    return batch // count + larger
  check = tf.debugging.assert_greater_equal(
    batch,
    tf.constant(count, tf.int64),
    message=(
      f'{what}: the mini-batch has fewer examples than num_micro_batches '
      f'({count}), and its size is known only when a step runs. Use larger '
      'batches in training, in all buckets, or fewer micro-batches.'
    ),
  )
  with tf.control_dependencies([] if check is None else [check]):
    return batch // count + larger


def merge(nests: Sequence[Any], dims: Dims) -> Any:
  """Joins the nests of all micro-batches into one.

  Where a tensor has no such dimension, that of the first micro-batch is taken.
  """
  return _join(nests, dims, lambda column: column[0])


def merge_gradients(nests: Sequence[Any], dims: Dims) -> Any:
  """Joins gradients of what `split` returned: the gradient of `split`.

  Half-precision gradients of what was not cut come out as float32.
  """
  return _join(nests, dims, _sum)


def _sum(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
  """The sum, from the first to the last; of half precision in float32.

  It is one function, whose order of summation TensorFlow does not change.
  """
  wide = sum_dtype(tensors[0].dtype)

  def add(*parts: tf.Tensor) -> list[tf.Tensor]:
    total = tf.cast(parts[0], wide)
    for part in parts[1:]:
      total += tf.cast(part, wide)
    return [total]

  specs = [spec(tensor) for tensor in tensors]
  return graph_function.as_function('sum_shared', add, specs)(tensors)[0]


def _join(
  nests: Sequence[Any],
  dims: Dims,
  without_dim: Callable[[Sequence[tf.Tensor]], tf.Tensor],
) -> Any:
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


def split_gradients(
  gradients: Sequence[tf.Tensor],
  nests: Sequence[Sequence[tf.Tensor]],
  dims: Dims,
) -> list[list[tf.Tensor]]:
  """Cuts gradients of what `merge` returned: the gradient of `merge`.

  Args:
    gradients: One for each tensor that was joined.
    nests: What was joined: for each micro-batch its tensors.
    dims: As they were joined.
  """
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
      columns.append(_split_like(gradient, parts, dim))
  return [barrier([column[m] for column in columns]) for m in range(len(nests))]


def _split_like(
  tensor: tf.Tensor, parts: Sequence[tf.Tensor], dim: int
) -> list[tf.Tensor]:
  """Cuts a tensor into pieces as long as `parts` are."""
  lengths: list[Any] = [
    None if part.shape.rank is None else part.shape.as_list()[dim]
    for part in parts
  ]
  if None in lengths:
    lengths = tf.stack([tf.shape(part)[dim] for part in parts])
  return tf.split(tensor, lengths, axis=dim, num=len(parts))
