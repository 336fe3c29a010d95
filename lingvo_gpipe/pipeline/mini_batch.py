# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One mini-batch of a PipeliningLayer: its size, and how it is cut."""

from collections.abc import Collection, Mapping
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.engine import clock, micro_batches, placement, tensor_specs
from lingvo_gpipe.pipeline import leaves, seeds

# What a mini-batch is made of, and what names in shared_inputs begin with.
INPUTS, TARGETS, SIDE_INPUTS = GIVEN = ('inputs', 'targets', 'side_inputs')


class MiniBatch:
  """Cuts the tensors of a mini-batch into micro-batches.

  Attributes:
    clock: Where in the training it is.
    batch_dim: The dimension that counts the examples, where it is not said
      otherwise.
    given: Its tensors by `GIVEN`: the inputs are a tuple of arguments, the side
      inputs a dict.
    dims: For each of their leaves, in the same nest, the dimension that counts
      the examples; None for what is not cut.
    names: The names of the leaves, in order.
  """

  def __init__(
    self,
    params: Any,
    path: str,
    given: Mapping[str, Any],
    device: str,
    *,
    training: bool,
  ):
    """Decides how to cut.

    Args:
      params: The PipeliningLayer's Params.
      path: Its path, for messages.
      given: See above; what is to be cut must have the same number of examples.
      device: Where to compute sizes, if they are known at run time only.
      training: Whether a micro-batch may not be empty.
    """
    self._path = path
    self._device = device
    self.batch_dim = params.batch_dim
    with placement.on_device(device):
      self.given = {
        name: leaves.to_tensors(given[name], name, path) for name in GIVEN
      }
    self.names = _names(self.given)
    shared = _shared(params, path, self.names)
    self.dims = tf.nest.pack_sequence_as(
      self.given,
      [None if name in shared else params.batch_dim for name in self.names],
    )
    self._sizes, batch = self._choose_sizes(params)
    self.clock = self._make_clock(batch, training)

  @property
  def count(self) -> int:
    """M."""
    return self._sizes.count

  @property
  def sizes(self) -> tuple[int | None, ...]:
    """The examples of each micro-batch, None where the graph does not know."""
    return self._sizes.sizes

  @property
  def size(self) -> int | None:
    """The examples of the mini-batch, None where the graph does not know."""
    return self._sizes.batch

  def _leaves(self) -> list[tuple[str, tf.Tensor, int | None]]:
    """Each leaf's name, tensor, and dimension to cut."""
    flat = zip(
      self.names,
      tf.nest.flatten(self.given),
      tf.nest.flatten(self.dims),
      strict=True,
    )
    return [leaf for leaf in flat if leaf[1] is not None]

  def inputs_and_dims(self) -> tuple[list[tf.Tensor], list[int | None]]:
    """The tensors of the inputs in flat order, and their dimensions to cut."""
    flat = zip(
      tf.nest.flatten(self.given[INPUTS]),
      tf.nest.flatten(self.dims[INPUTS]),
      strict=True,
    )
    there = [(tensor, dim) for tensor, dim in flat if tensor is not None]
    return [tensor for tensor, _ in there], [dim for _, dim in there]

  @property
  def cut_names(self) -> list[str]:
    """The names of the leaves that are cut."""
    return [name for name, _, dim in self._leaves() if dim is not None]

  def _choose_sizes(
    self, p: Any
  ) -> tuple[micro_batches.MicroBatchSizes, tf.Tensor]:
    """The micro-batches' sizes, and the mini-batch's, an int64 scalar."""
    by_size = p.micro_batch_size is not None and p.num_micro_batches == 1
    count = None if by_size else p.num_micro_batches
    cut = [leaf for leaf in self._leaves() if leaf[2] is not None]
    try:
      known, (self._counted, tensor, dim) = micro_batches.batch_size(cut)
      sizes = micro_batches.choose_sizes(known, count, p.micro_batch_size)
    except ValueError as error:
      raise ValueError(f'{self._path}: {error}') from error
    self._unsized = {
      leaf.ref(): name
      for name, leaf, dim in cut
      if name != self._counted
      and (leaf.shape.rank is None or leaf.shape.as_list()[dim] is None)
    }
    if count is not None and sizes.count < count:
      tf.logging.warning(
        '%s: num_micro_batches is %d, but the mini-batch has %d examples; it '
        'is cut into %d micro-batches of one example each.',
        self._path,
        count,
        known,
        sizes.count,
      )
    with placement.on_device(self._device):
      if known is not None:
        return sizes, tf.constant(known, tf.int64)
      return sizes, tf.shape(tensor, out_type=tf.int64)[dim]

  def _make_clock(self, batch: tf.Tensor, training: bool) -> clock.Clock:
    step = py_utils.GetGlobalStep()
    if step is None:
      step = py_utils.GetOrCreateGlobalStepVar()
    with placement.on_device(self._device):
      sizes = self._sizes.sizes
      self._run_time_sizes = None
      if not self._sizes.known:
        self._run_time_sizes = micro_batches.sizes_at_run_time(
          self.count, batch, may_be_empty=not training, what=self._path
        )
        sizes = tf.unstack(self._run_time_sizes, num=self.count)
      return clock.Clock(
        step=tf.cast(tf.convert_to_tensor(step), tf.int64),
        seed=seeds.next_seed(),
        sizes=sizes,
        batch=batch,
      )

  def split(self, nest: Any, dims: Any, device: str) -> list[Any]:
    """Cuts a nest of `given`, on a device, into M.

    Args:
      nest: The nest.
      dims: The same part of `dims`.
      device: The device.
    """
    flat_dims = tf.nest.flatten(dims)
    flat = zip(tf.nest.flatten(nest), flat_dims, strict=True)
    with placement.on_device(device):
      return micro_batches.split(
        tf.nest.pack_sequence_as(nest, [self._checked(*leaf) for leaf in flat]),
        flat_dims,
        self._sizes,
        self._run_time_sizes,
      )

  def _checked(
    self, tensor: tf.Tensor | None, dim: int | None
  ) -> tf.Tensor | None:
    """A leaf of `given`; running it fails if it has other than the examples.

    Nothing is added where the graph knows its size, or takes the size from it.
    """
    if tensor is None or dim is None or tensor.ref() not in self._unsized:
      return tensor
    name = self._unsized[tensor.ref()]
    size = tf.shape(tensor, out_type=tf.int64)[dim]
    batch = self.clock.batch
    said = (
      f'{self._path}: the tensors differ in dimension {dim} (batch_dim); '
      f'examples in {name} and in {self._counted}:'
    )
    check = tf.raw_ops.Assert(
      condition=tf.equal(size, batch), data=[said, size, batch]
    )
    with tf.control_dependencies([check]):
      return tf.identity(tensor)

  def dims_by_size(self, nest: Any) -> Any:
    """Where to cut tensors that are none of `given`, as far as shapes say."""

    def dim(tensor: tf.Tensor | None) -> int | None:
      if tensor is None or tensor.shape.rank is None:
        return self.batch_dim
      length = tensor.shape.as_list()[self.batch_dim :][:1]
      return self.batch_dim if length in ([None], [self.size]) else None

    return tf.nest.map_structure(dim, nest)

  def specs(
    self, size: int | None, uncut: Collection[str] = ()
  ) -> dict[str, Any]:
    """Specs of `given` in a micro-batch.

    Args:
      size: Its number of examples.
      uncut: Names of further leaves that are not to be cut.
    """
    cut = dict(zip(self.names, tf.nest.flatten(self.dims), strict=True))
    flat = []
    for name, tensor in zip(
      self.names, tf.nest.flatten(self.given), strict=True
    ):
      spec = None if tensor is None else tensor_specs.spec(tensor)
      dim = None if name in uncut else cut[name]
      if spec is not None and dim is not None and spec.shape.rank is not None:
        shape = spec.shape.as_list()
        shape[dim] = size
        spec = tf.TensorSpec(shape, spec.dtype)
      flat.append(spec)
    return tf.nest.pack_sequence_as(self.given, flat)

  def shares(self) -> list[tf.Tensor]:
    """Each micro-batch's share of the examples, float32."""
    with placement.on_device(self._device):
      return [self.clock.share(m) for m in range(self.count)]


def _names(given: Mapping[str, Any]) -> list[str]:
  """The names of all leaves; a single input is `inputs`, not `inputs[0]`."""
  found = leaves.names(given, '')
  if len(given[INPUTS]) == 1:
    one = f'{INPUTS}[0]'
    found = [
      INPUTS + name.removeprefix(one) if leaves.matches(name, one) else name
      for name in found
    ]
  return found


def check_shared_inputs(params: Any) -> None:
  """Raises ValueError if Params name something that cannot be an input."""
  for entry in params.shared_inputs:
    root = str(entry).replace('[', '.').split('.')[0]
    if root not in GIVEN:
      raise ValueError(
        f'{params.name}.shared_inputs has {entry!r}; names begin with one of '
        f"{GIVEN}, as in 'inputs[1]', 'targets.class_weights' or "
        "'side_inputs.mask'."
      )


def _shared(params: Any, path: str, names: list[str]) -> set[str]:
  """The leaves that shared_inputs names."""
  shared: set[str] = set()
  for entry in params.shared_inputs:
    found = [name for name in names if leaves.matches(name, entry)]
    if not found and not (entry.startswith(TARGETS) and TARGETS in names):
      raise ValueError(
        f'{path}: shared_inputs names {entry!r}, but there are {names}.'
      )
    shared.update(found)
  return shared
