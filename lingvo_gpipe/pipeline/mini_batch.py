# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One mini-batch of a PipeliningLayer: its size, and how it is cut."""

import copy
import dataclasses
import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils

from lingvo_gpipe.engine import micro_batches
from lingvo_gpipe.engine.graph_walks import may_need_gradients
from lingvo_gpipe.engine.micro_batches import Clock
from lingvo_gpipe.engine.tensors import (
  differentiable,
  flat_tensors,
  on_device,
  spec,
)
from lingvo_gpipe.pipeline import seeds
from lingvo_gpipe.pipeline.param_values import GIVEN

INPUTS, TARGETS, SIDE_INPUTS = GIVEN
# The targets' name among the side inputs. Users' names are identifiers.
TARGETS_VALUE = '(targets)'


@dataclasses.dataclass(frozen=True)
class Leaf:
  """A tensor of a mini-batch; its `dim` counts the examples, if it is cut."""

  name: str
  tensor: tf.Tensor
  dim: int | None


class MiniBatch:
  """Cuts the tensors of a mini-batch into micro-batches.

  Attributes:
    clock: Where in the training it is.
    batch_dim: The dimension that counts the examples, where it is not said
      otherwise.
    given: Its leaves, or None, by `GIVEN`: the inputs are a tuple of arguments,
      the side inputs a dict.
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
      given: Nests by `GIVEN`; what is to be cut must have the same number of
        examples.
      device: Where to compute sizes, if they are known at run time only.
      training: Whether a micro-batch may not be empty.
    """
    self._path = path
    self._device = device
    self.batch_dim = params.batch_dim
    with on_device(device):
      tensors = {name: to_tensors(given[name], name, path) for name in GIVEN}
    names = _names(tensors)
    shared = _shared(params, path, names)
    self.given = tf.nest.pack_sequence_as(
      tensors,
      [
        None
        if tensor is None
        else Leaf(name, tensor, None if name in shared else self.batch_dim)
        for name, tensor in zip(names, tf.nest.flatten(tensors), strict=True)
      ],
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

  @property
  def cut_names(self) -> list[str]:
    """The names of the leaves that are cut."""
    leaves = flat_tensors(self.given)
    return [leaf.name for leaf in leaves if leaf.dim is not None]

  def _choose_sizes(
    self, p: Any
  ) -> tuple[micro_batches.MicroBatchSizes, tf.Tensor]:
    """The micro-batches' sizes, and the mini-batch's, an int64 scalar."""
    by_size = p.micro_batch_size is not None and p.num_micro_batches == 1
    count = None if by_size else p.num_micro_batches
    cut = [
      (leaf.name, leaf.tensor, leaf.dim)
      for leaf in flat_tensors(self.given)
      if leaf.dim is not None
    ]
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
    with on_device(self._device):
      if known is not None:
        return sizes, tf.constant(known, tf.int64)
      return sizes, tf.shape(tensor, out_type=tf.int64)[dim]

  def _make_clock(self, batch: tf.Tensor, training: bool) -> Clock:
    step = py_utils.GetGlobalStep()
    if step is None:
      step = py_utils.GetOrCreateGlobalStepVar()
    with on_device(self._device):
      sizes = self._sizes.sizes
      self._run_time_sizes = None
      if not self._sizes.known:
        self._run_time_sizes = micro_batches.sizes_at_run_time(
          self.count, batch, may_be_empty=not training, what=self._path
        )
        sizes = tf.unstack(self._run_time_sizes, num=self.count)
      return Clock(
        step=tf.cast(tf.convert_to_tensor(step), tf.int64),
        seed=seeds.next_seed(),
        sizes=sizes,
        batch=batch,
      )

  def split(self, nest: Any, device: str) -> list[Any]:
    """Cuts a nest of leaves into M, on a device."""
    with on_device(device):
      return micro_batches.split(
        tf.nest.map_structure(self._checked, nest),
        [leaf and leaf.dim for leaf in tf.nest.flatten(nest)],
        self._sizes,
        self._run_time_sizes,
      )

  def _checked(self, leaf: Leaf | None) -> tf.Tensor | None:
    """A leaf's tensor; running it fails if it has other than the examples.

    Nothing is added where the graph knows its size, or takes the size from it.
    """
    if leaf is None:
      return None
    if leaf.dim is None or leaf.tensor.ref() not in self._unsized:
      return leaf.tensor
    name = self._unsized[leaf.tensor.ref()]
    size = tf.shape(leaf.tensor, out_type=tf.int64)[leaf.dim]
    batch = self.clock.batch
    said = (
      f'{self._path}: the tensors differ in dimension {leaf.dim} (batch_dim); '
      f'examples in {name} and in {self._counted}:'
    )
    check = tf.raw_ops.Assert(
      condition=tf.equal(size, batch), data=[said, size, batch]
    )
    with tf.control_dependencies([check]):
      return tf.identity(leaf.tensor)

  def leaves_by_size(self, nest: Any) -> Any:
    """Other tensors as leaves, to be cut as far as their shapes say so."""

    def leaf(tensor: tf.Tensor | None) -> Leaf | None:
      if tensor is None:
        return None
      dim: int | None = self.batch_dim
      if tensor.shape.rank is not None:
        length = tensor.shape.as_list()[self.batch_dim :][:1]
        dim = self.batch_dim if length in ([None], [self.size]) else None
      return Leaf('', tensor, dim)

    return tf.nest.map_structure(leaf, nest)

  def specs(self, size: int | None, uncut: Collection[str] = ()) -> Any:
    """Specs of `given` in a micro-batch of a size, some leaves left uncut."""

    def spec_of(leaf: Leaf | None) -> tf.TensorSpec | None:
      if leaf is None:
        return None
      shape = leaf.tensor.shape
      if leaf.dim is None or leaf.name in uncut or shape.rank is None:
        return spec(leaf.tensor)
      lengths = shape.as_list()
      lengths[leaf.dim] = size
      return tf.TensorSpec(lengths, leaf.tensor.dtype.base_dtype)

    return tf.nest.map_structure(spec_of, self.given)

  def shares(self) -> list[tf.Tensor]:
    """Each micro-batch's share of the examples, float32."""
    with on_device(self._device):
      return [self.clock.share(m) for m in range(self.count)]


class SideInputs:
  """The side inputs of one mini-batch, by name, the targets among them.

  Data goes to a cell as its side input, which has no gradient. What may come
  from trained weights reaches the cells as values from outside: each taker
  hands its gradient to the taker before it, so sums have one order for every
  cut.

  Attributes:
    given: The names of those with gradients.
    data: In training, the float tensors of the others.
  """

  def __init__(
    self, layer: Any, batch: MiniBatch, *, training: bool, with_loss: bool
  ):
    """Takes them from a mini-batch, in training with gradients if need be."""
    self._devices = layer.cell_devices
    self._batch = batch
    self._names = [list(wiring.side_inputs) for wiring in layer.cell_wiring]
    if with_loss:
      self._names[-1].append(TARGETS_VALUE)
    self._first_takers: dict[str, int] = {}
    for k, names in enumerate(self._names):
      for name in names:
        self._first_takers.setdefault(name, k)
    self.given: list[str] = []
    self.data: dict[str, list[tf.Tensor]] = {}
    for name in sorted(self._first_takers) if training else ():
      tensors = [leaf.tensor for leaf in self.leaves(name)]
      if may_need_gradients(tensors, layer.trained_variables.by_name):
        self.given.append(name)
      else:
        self.data[name] = [t for t in tensors if differentiable(t)]

  def leaves(self, name: str) -> list[Leaf]:
    """The leaves of one of them."""
    return flat_tensors(_pick(self._batch.given, name))

  def taken_as_values(self, k: int) -> list[str]:
    """The names of those with gradients that a cell takes."""
    return [name for name in self._names[k] if name in self.given]

  def of_cell(self, k: int, nests: Mapping[str, Any]) -> Any:
    """Those without gradients: (targets, others by name) of cell `k`."""
    found = {
      name: _pick(nests, name)
      for name in self._names[k]
      if name not in self.given
    }
    return found.pop(TARGETS_VALUE, None), found

  def values(self, nests: Mapping[str, Any]) -> dict[str, Any]:
    """Those with gradients, by name, of nests by `mini_batch.GIVEN`."""
    return {name: _pick(nests, name) for name in self.given}

  def split(self) -> list[list[Any]]:
    """What `of_cell` is for each cell and micro-batch.

    What several cells on a device take is sent there and cut once.
    """
    split = functools.cache(self._split)
    rows = []
    for names, device in zip(self._names, self._devices, strict=True):
      cut = {n: split(n, device) for n in names if n not in self.given}
      targets = cut.pop(TARGETS_VALUE, [None] * self._batch.count)
      rows.append(
        [
          (targets[m], {name: parts[m] for name, parts in cut.items()})
          for m in range(self._batch.count)
        ]
      )
    return rows

  def _split(self, name: str, device: str) -> list[Any]:
    return self._batch.split(_pick(self._batch.given, name), device)

  def split_values(self) -> dict[str, list[Any]]:
    """Those with gradients, cut into micro-batches, by name."""
    return {n: self._split(n, self.first_device(n)) for n in self.given}

  def first_device(self, name: str) -> str:
    """That of the first cell that takes one of them."""
    return self._devices[self._first_takers[name]]


def _pick(nests: Mapping[str, Any], name: str) -> Any:
  return nests[TARGETS] if name == TARGETS_VALUE else nests[SIDE_INPUTS][name]


def _names(given: Mapping[str, Any]) -> list[str]:
  """The names of all leaves; a single input is `inputs`, not `inputs[0]`."""
  found = leaf_names(given, '')
  if len(given[INPUTS]) == 1:
    one = f'{INPUTS}[0]'
    found = [
      INPUTS + name.removeprefix(one) if matches(name, one) else name
      for name in found
    ]
  return found


def _shared(params: Any, path: str, names: list[str]) -> set[str]:
  """The leaves that shared_inputs names."""
  shared: set[str] = set()
  for entry in params.shared_inputs:
    found = [name for name in names if matches(name, entry)]
    if not found and not (entry.startswith(TARGETS) and TARGETS in names):
      raise ValueError(
        f'{path}: shared_inputs names {entry!r}, but there are {names}.'
      )
    shared.update(found)
  return shared


# -- The leaves of a nest.

_NUMBERS = (bool, int, float, complex, str, bytes, np.generic)


def leaf_names(nest: Any, name: str) -> list[str]:
  """A name for each leaf, in the order of `tf.nest.flatten`.

  That of the nest itself is `name`; '' if its keys are to stand alone.
  """
  if isinstance(nest, Mapping):
    dot = '.' if name else ''
    parts = [(nest[key], f'{name}{dot}{key}') for key in sorted(nest)]
  elif isinstance(nest, tuple) and hasattr(nest, '_fields'):
    parts = [
      (part, f'{name}.{field}')
      for part, field in zip(nest, nest._fields, strict=True)
    ]
  elif isinstance(nest, list | tuple):
    parts = [(part, f'{name}[{i}]') for i, part in enumerate(nest)]
  elif tf.nest.is_nested(nest):
    return [f'{name}#{i}' for i in range(len(tf.nest.flatten(nest)))]
  else:
    return [name]
  return [found for part in parts for found in leaf_names(*part)]


def matches(name: str, entry: str) -> bool:
  """Whether a leaf is the one that `entry` names, or lies in that nest."""
  return name == entry or name.startswith((f'{entry}.', f'{entry}['))


def to_tensors(nest: Any, name: str, what: str) -> Any:
  """Returns the nest with tensors for its leaves; a None stays None.

  numpy arrays, variables and Python's numbers become tensors, of the dtype that
  TensorFlow gives them. So does a list that has only numbers in it, as a whole.
  Errors name the nest, and who is given it.

  Raises:
    ValueError: A leaf cannot be a tensor: it is a RaggedTensor, say.
  """
  nest = _join_numbers(nest)
  flat = [
    None if leaf is None else _to_tensor(leaf, f'{what}: {leaf_name}')
    for leaf, leaf_name in zip(
      tf.nest.flatten(nest), leaf_names(nest, name), strict=True
    )
  ]
  return tf.nest.pack_sequence_as(nest, flat)


def _join_numbers(nest: Any) -> Any:
  """The nest with an array in place of each list of numbers."""
  if isinstance(nest, list) and nest:
    if all(isinstance(leaf, _NUMBERS) for leaf in tf.nest.flatten(nest)):
      return _Numbers(nest)
    return [_join_numbers(part) for part in nest]
  if isinstance(nest, Mapping):
    joined: Any = copy.copy(nest)
    for key in nest:
      joined[key] = _join_numbers(nest[key])
    return joined
  if type(nest) is tuple:
    return tuple(_join_numbers(part) for part in nest)
  return nest


class _Numbers:
  """A list that is one leaf."""

  def __init__(self, value: Sequence[Any]):
    self.value = value


def _to_tensor(leaf: Any, name: str) -> tf.Tensor:
  if isinstance(leaf, _Numbers):
    leaf = leaf.value
  kind = type(leaf).__name__
  if isinstance(leaf, tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices):
    raise ValueError(
      f'{name} is a {kind}; a pipeline takes only dense tensors. Give it the '
      'dense tensor, or one dense tensor for each component.'
    )
  try:
    return tf.convert_to_tensor(leaf)
  except (TypeError, ValueError, RuntimeError) as error:
    raise ValueError(
      f'{name} is a {kind} that cannot be made a tensor: {error}'
    ) from error
