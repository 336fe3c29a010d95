# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One mini-batch of a PipeliningLayer: its size, and how it is cut."""

import copy
import dataclasses
import functools
from collections.abc import Collection, Mapping
from typing import Any

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils
from tensorflow.python.util import nest as nest_lib

from lingvo_gpipe.engine import micro_batches
from lingvo_gpipe.engine.graph_walks import may_need_gradients
from lingvo_gpipe.engine.micro_batches import Clock
from lingvo_gpipe.engine.tensors import flat_tensors, on_device, spec
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
  """Cuts the tensors of a mini-batch into M micro-batches.

  Attributes:
    inputs: Its leaves, or None: of the inputs, a tuple of arguments.
    sides: The same of the targets and side inputs, by name.
    cut: Those of them that are cut.
    size: Its examples, or None; `sizes` are those of the micro-batches.
  """

  def __init__(
    self,
    layer: Any,
    inputs: tuple[Any, ...],
    targets: Any,
    side_inputs: Mapping[str, Any],
    device: str,
    *,
    training: bool,
  ):
    """Decides how to cut; in training no micro-batch may be empty."""
    self._path = path = layer.path
    params = layer.params
    given = {INPUTS: inputs, TARGETS: targets, SIDE_INPUTS: dict(side_inputs)}
    self._device = device
    self.batch_dim = params.batch_dim
    with on_device(device):
      tensors = {name: to_tensors(given[name], name, path) for name in GIVEN}
    names = _names(tensors)
    shared = _shared(params, path, names)
    leaves = [
      None
      if tensor is None
      else Leaf(name, tensor, None if name in shared else self.batch_dim)
      for name, tensor in zip(names, tf.nest.flatten(tensors), strict=True)
    ]
    packed = tf.nest.pack_sequence_as(tensors, leaves)
    self.inputs = packed[INPUTS]
    self.sides = {**packed[SIDE_INPUTS], TARGETS_VALUE: packed[TARGETS]}
    self.cut = [leaf for leaf in leaves if leaf and leaf.dim is not None]
    self._sizes, self._counted = self._choose_sizes(params)
    self.count = self._sizes.count
    self.size = self._sizes.batch
    self.sizes = self._sizes.sizes
    self._run_time_sizes: tf.Tensor | None = None
    with on_device(device):
      self.clock = self._make_clock(training)

  def _choose_sizes(self, p: Any) -> tuple[micro_batches.MicroBatchSizes, Leaf]:
    by_size = p.micro_batch_size is not None and p.num_micro_batches == 1
    count = None if by_size else p.num_micro_batches
    leaves = {leaf.name: leaf for leaf in self.cut}
    try:
      known, (counted, *_) = micro_batches.batch_size(
        [(leaf.name, leaf.tensor, self.batch_dim) for leaf in self.cut]
      )
      sizes = micro_batches.choose_sizes(known, count, p.micro_batch_size)
    except ValueError as error:
      raise ValueError(f'{self._path}: {error}') from error
    if count is not None and sizes.count < count:
      tf.logging.warning(
        '%s: num_micro_batches is %d, but the mini-batch has %d examples; it '
        'is cut into %d micro-batches of one example each.',
        self._path,
        count,
        known,
        sizes.count,
      )
    return sizes, leaves[counted]

  def _make_clock(self, training: bool) -> Clock:
    step = py_utils.GetGlobalStep()
    if step is None:
      step = py_utils.GetOrCreateGlobalStepVar()
    sizes = self.sizes
    if self.size is not None:
      batch = tf.constant(self.size, tf.int64)
    else:
      counted = tf.shape(self._counted.tensor, out_type=tf.int64)
      batch = counted[self.batch_dim]
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
    with on_device(device):
      return micro_batches.split(
        tf.nest.map_structure(self._checked, nest),
        [leaf and leaf.dim for leaf in tf.nest.flatten(nest)],
        self._sizes,
        self._run_time_sizes,
      )

  def _checked(self, leaf: Leaf | None) -> tf.Tensor | None:
    """A leaf's tensor; running it fails if it has other than the examples."""
    if leaf is None:
      return None
    if leaf.dim is None or leaf is self._counted or _size(leaf) is not None:
      return leaf.tensor
    size = tf.shape(leaf.tensor, out_type=tf.int64)[leaf.dim]
    batch = self.clock.batch
    said = (
      f'{self._path}: the tensors differ in dimension {leaf.dim} (batch_dim); '
      f'examples in {leaf.name} and in {self._counted.name}:'
    )
    check = tf.raw_ops.Assert(
      condition=tf.equal(size, batch), data=[said, size, batch]
    )
    with tf.control_dependencies([check]):
      return tf.identity(leaf.tensor)

  def specs(
    self, size: int | None, uncut: Collection[str] = ()
  ) -> tuple[Any, dict[str, Any]]:
    """Specs of `inputs` and `sides` in a micro-batch, some leaves `uncut`."""

    def spec_of(leaf: Leaf | None) -> tf.TensorSpec | None:
      if leaf is None:
        return None
      shape = leaf.tensor.shape
      if leaf.dim is None or leaf.name in uncut or shape.rank is None:
        return spec(leaf.tensor)
      lengths = shape.as_list()
      lengths[leaf.dim] = size
      return tf.TensorSpec(lengths, leaf.tensor.dtype.base_dtype)

    inputs, sides = tf.nest.map_structure(spec_of, (self.inputs, self.sides))
    return inputs, sides

  @functools.cached_property
  def shares(self) -> list[tf.Tensor]:
    """Each micro-batch's share of the examples, float32."""
    with on_device(self._device):
      return [self.clock.share(m) for m in range(self.count)]


class SideInputs:
  """The side inputs of one mini-batch, by name, the targets among them.

  Data goes to a cell as its side input, which has no gradient. What may come
  from trained weights reaches the cells as values from outside, `given`.
  """

  def __init__(
    self, layer: Any, batch: MiniBatch, *, training: bool, with_loss: bool
  ):
    self._devices = layer.cell_devices
    self._batch = batch
    self._names = [list(wiring.side_inputs) for wiring in layer.cell_wiring]
    if with_loss:
      self._names[-1].append(TARGETS_VALUE)
    self.first_takers = {
      name: k
      for k in reversed(range(len(self._names)))
      for name in self._names[k]
    }
    is_trained = layer.trained_variables.by_name
    self.given = [
      name
      for name in sorted(self.first_takers)
      if training
      and may_need_gradients([t.tensor for t in self.leaves(name)], is_trained)
    ]

  def leaves(self, name: str) -> list[Leaf]:
    return flat_tensors(self._batch.sides[name])

  def taken_as_values(self, k: int) -> list[str]:
    return [name for name in self._names[k] if name in self.given]

  def of_cell(self, k: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values, by name, of those without gradients that a cell takes."""
    return {n: values[n] for n in self._names[k] if n not in self.given}

  def split(self) -> list[list[dict[str, Any]]]:
    """What `of_cell` is for each cell and micro-batch, cut once a device."""
    split = functools.cache(self._split)
    rows = []
    for k, device in enumerate(self._devices):
      parts = {n: split(n, device) for n in self.of_cell(k, self._batch.sides)}
      rows.append(
        [{n: parts[n][m] for n in parts} for m in range(self._batch.count)]
      )
    return rows

  def _split(self, name: str, device: str) -> list[Any]:
    return self._batch.split(self._batch.sides[name], device)

  def split_values(self) -> dict[str, list[Any]]:
    return {n: self._split(n, self.first_device(n)) for n in self.given}

  def first_device(self, name: str) -> str:
    return self._devices[self.first_takers[name]]


def _size(leaf: Leaf) -> int | None:
  """How many examples a leaf that is cut has, as far as the graph knows."""
  shape = leaf.tensor.shape
  return None if shape.rank is None else shape.as_list()[leaf.dim]


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
  shared: set[str] = set()
  for entry in params.shared_inputs:
    found = [name for name in names if matches(name, entry)]
    if not found and not (entry.startswith(TARGETS) and TARGETS in names):
      raise ValueError(
        f'{path}: shared_inputs names {entry!r}, but there are {names}.'
      )
    shared.update(found)
  return shared


_NUMBERS = (bool, int, float, complex, str, bytes, np.generic)


def leaf_names(nest: Any, name: str) -> list[str]:
  """A name for each leaf, in order; `name` is that of the nest, or ''."""
  names = [
    name + ''.join(f'[{k}]' if isinstance(k, int) else f'.{k}' for k in path)
    for path, _ in nest_lib.flatten_with_tuple_paths(nest)
  ]
  return names if name else [found.removeprefix('.') for found in names]


def matches(name: str, entry: str) -> bool:
  """Whether a leaf is the one that `entry` names, or lies in that nest."""
  return name == entry or name.startswith((f'{entry}.', f'{entry}['))


def to_tensors(nest: Any, name: str, what: str) -> Any:
  """Returns the nest with tensors for its leaves; a None stays None.

  A list of only numbers becomes one tensor. Raises ValueError, which names the
  nest and who is given it, if a leaf cannot be a tensor.
  """
  if _is_of_numbers(nest):
    return _to_tensor(nest, name, what)
  if isinstance(nest, Mapping):
    made: Any = copy.copy(nest)
    for key in nest:
      made[key] = to_tensors(nest[key], f'{name}.{key}', what)
    return made
  if isinstance(nest, list) or type(nest) is tuple:
    parts = [
      to_tensors(part, f'{name}[{i}]', what) for i, part in enumerate(nest)
    ]
    return parts if isinstance(nest, list) else tuple(parts)
  return tf.nest.map_structure(lambda leaf: _to_tensor(leaf, name, what), nest)


def _is_of_numbers(nest: Any) -> bool:
  if not isinstance(nest, list) or not nest:
    return False
  return all(isinstance(leaf, _NUMBERS) for leaf in tf.nest.flatten(nest))


def _to_tensor(leaf: Any, name: str, what: str) -> tf.Tensor | None:
  if leaf is None:
    return None
  kind = type(leaf).__name__
  if isinstance(leaf, tf.RaggedTensor | tf.SparseTensor | tf.IndexedSlices):
    raise ValueError(
      f'{what}: {name} is a {kind}; a pipeline takes only dense tensors. Give '
      'it the dense tensor, or one dense tensor for each component.'
    )
  try:
    return tf.convert_to_tensor(leaf)
  except (TypeError, ValueError, RuntimeError) as error:
    raise ValueError(
      f'{what}: {name} is a {kind} that cannot be made a tensor: {error}'
    ) from error
