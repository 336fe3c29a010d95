# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The side inputs and targets of a mini-batch: who takes them, and in what way.

Data goes to a cell as its side input, which has no gradient. What may come from
trained weights reaches the cells as values from outside: each taker hands its
gradient to the taker before it, so sums have one order for every cut.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe.engine import gradient_bridge, tensor_specs
from lingvo_gpipe.pipeline import input_gradients, trained_variables
from lingvo_gpipe.pipeline.mini_batch import SIDE_INPUTS, TARGETS, MiniBatch

# The targets' name among the side inputs. Users' names are identifiers.
TARGETS_VALUE = '(targets)'


@dataclasses.dataclass(frozen=True)
class Given:
  """Something of a mini-batch that the engine gives gradients of.

  Attributes:
    device: The device of the first cell that takes it.
    tensors: Its tensors, of the mini-batch.
    dims: Along which dimension each of them is cut; None for not at all.
  """

  device: str
  tensors: Sequence[tf.Tensor]
  dims: Sequence[int | None]


class SideInputs:
  """The side inputs of one mini-batch, by name, the targets among them."""

  def __init__(self, layer, batch: MiniBatch, *, with_loss: bool):
    """Takes them from a mini-batch, as data without gradients.

    Args:
      layer: The PipeliningLayer.
      batch: The mini-batch.
      with_loss: Whether the loss is in the last cell, and takes the targets.
    """
    self._layer = layer
    self._devices = layer.cell_devices
    self._batch = batch
    self._names = [list(wiring.side_inputs) for wiring in layer.cell_wiring]
    if with_loss:
      self._names[-1].append(TARGETS_VALUE)
    self._takers = {
      name: [k for k, names in enumerate(self._names) if name in names]
      for name in sorted({name for names in self._names for name in names})
    }
    self._given: list[str] = []
    self._data: dict[str, list[tf.Tensor]] = {}

  def find_trained(self) -> None:
    """Finds out which depend on trained weights: these have gradients."""
    is_trained = self._layer.trained_variables.by_name
    for name in self._takers:
      floats = [
        t for t in self._flat(name)[0] if tensor_specs.differentiable(t)
      ]
      if floats and input_gradients.may_be_needed(floats, is_trained):
        self._given.append(name)
      else:
        self._data[name] = floats

  def _flat(self, name: str) -> tuple[list[tf.Tensor], list[int | None]]:
    """The tensors of one, and their dimensions to cut."""
    flat = zip(
      tf.nest.flatten(_pick(self._batch.given, name)),
      tf.nest.flatten(_pick(self._batch.dims, name)),
      strict=True,
    )
    there = [(t, dim) for t, dim in flat if t is not None]
    return [t for t, _ in there], [dim for _, dim in there]

  def taken_as_values(self, k: int) -> list[str]:
    """The names of those with gradients that a cell takes."""
    return [name for name in self._names[k] if name in self._given]

  def of_cell(self, k: int, nests: Mapping[str, Any]) -> Any:
    """Those without gradients: (targets, others by name) of cell `k`.

    Args:
      k: The cell.
      nests: Nests by `mini_batch.GIVEN`.
    """
    found = {
      name: _pick(nests, name)
      for name in self._names[k]
      if name not in self._given
    }
    return found.pop(TARGETS_VALUE, None), found

  def values(self, nests: Mapping[str, Any]) -> dict[str, Any]:
    """Those with gradients, by name, of nests by `mini_batch.GIVEN`."""
    return {name: _pick(nests, name) for name in self._given}

  def split(self) -> list[list[Any]]:
    """What `of_cell` is for each cell and micro-batch.

    What several cells on a device take is sent there and cut once.
    """
    split = functools.cache(self._split)
    rows = []
    for names, device in zip(self._names, self._devices, strict=True):
      cut = {n: split(n, device) for n in names if n not in self._given}
      targets = cut.pop(TARGETS_VALUE, [None] * self._batch.count)
      rows.append(
        [
          (targets[m], {name: parts[m] for name, parts in cut.items()})
          for m in range(self._batch.count)
        ]
      )
    return rows

  def _split(self, name: str, device: str) -> list[Any]:
    return self._batch.split(
      _pick(self._batch.given, name), _pick(self._batch.dims, name), device
    )

  def split_values(self) -> dict[str, list[Any]]:
    """Those with gradients, cut into micro-batches, by name."""
    return {n: self._split(n, self._first_device(n)) for n in self._given}

  def given(self) -> dict[str, Given]:
    """Where those with gradients are, by name."""
    return {
      name: Given(self._first_device(name), *self._flat(name))
      for name in self._given
    }

  def _first_device(self, name: str) -> str:
    return self._devices[self._takers[name][0]]

  def refused(self) -> list[gradient_bridge.Source]:
    """Data, of which a gradient must not be asked for."""
    return [
      trained_variables.refusing_source(
        self._first_device(name),
        tensors,
        f'{self._layer.path}: a gradient of {_in_words(name)} is asked for. '
        'Nothing that is trained needs it, so the pipeline does not compute '
        'it. Make it an input: the gradient of an input is always available.',
      )
      for name, tensors in self._data.items()
    ]


def _in_words(name: str) -> str:
  return 'the targets' if name == TARGETS_VALUE else f'side input {name!r}'


def _pick(nests: Mapping[str, Any], name: str) -> Any:
  return nests[TARGETS] if name == TARGETS_VALUE else nests[SIDE_INPUTS][name]
