# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The side inputs and targets of a mini-batch: who takes them, and in what way.

Data goes to a cell as its side input, which has no gradient. What may come from
trained weights reaches the cells as values from outside: each taker hands its
gradient to the taker before it, so sums have one order for every cut.
"""

import functools
from collections.abc import Mapping
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe.engine.engine import Gradients
from lingvo_gpipe.engine.graph_walks import may_need_gradients
from lingvo_gpipe.engine.tensors import differentiable, flat_tensors
from lingvo_gpipe.pipeline import gradients
from lingvo_gpipe.pipeline.mini_batch import (
  SIDE_INPUTS,
  TARGETS,
  Leaf,
  MiniBatch,
)

# The targets' name among the side inputs. Users' names are identifiers.
TARGETS_VALUE = '(targets)'


class SideInputs:
  """The side inputs of one mini-batch, by name, the targets among them."""

  def __init__(
    self, layer: Any, batch: MiniBatch, *, training: bool, with_loss: bool
  ):
    """Takes them from a mini-batch, in training with gradients if need be."""
    self._path = layer.path
    self._devices = layer.cell_devices
    self._batch = batch
    self._names = [list(wiring.side_inputs) for wiring in layer.cell_wiring]
    if with_loss:
      self._names[-1].append(TARGETS_VALUE)
    self._first_takers: dict[str, int] = {}
    for k, names in enumerate(self._names):
      for name in names:
        self._first_takers.setdefault(name, k)
    self._given: list[str] = []
    self._data: dict[str, list[tf.Tensor]] = {}
    for name in sorted(self._first_takers) if training else ():
      tensors = [leaf.tensor for leaf in self.leaves(name)]
      if may_need_gradients(tensors, layer.trained_variables.by_name):
        self._given.append(name)
      else:
        self._data[name] = [t for t in tensors if differentiable(t)]

  def leaves(self, name: str) -> list[Leaf]:
    """The leaves of one of them."""
    return flat_tensors(_pick(self._batch.given, name))

  def taken_as_values(self, k: int) -> list[str]:
    """The names of those with gradients that a cell takes."""
    return [name for name in self._names[k] if name in self._given]

  def of_cell(self, k: int, nests: Mapping[str, Any]) -> Any:
    """Those without gradients: (targets, others by name) of cell `k`."""
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
    return self._batch.split(_pick(self._batch.given, name), device)

  def split_values(self) -> dict[str, list[Any]]:
    """Those with gradients, cut into micro-batches, by name."""
    return {n: self._split(n, self._first_device(n)) for n in self._given}

  def _first_device(self, name: str) -> str:
    return self._devices[self._first_takers[name]]

  def sources(self) -> list[gradients.Source]:
    """Those with gradients, as what outputs depend on."""
    return [
      gradients.of_leaves(
        self._first_device(name),
        self.leaves(name),
        self._batch.count,
        functools.partial(_gradients_of, name),
      )
      for name in self._given
    ]

  def refused(self) -> list[gradients.Source]:
    """Data, of which a gradient must not be asked for."""
    return [
      gradients.refusing(
        self._first_device(name),
        tensors,
        f'{self._path}: a gradient of {_in_words(name)} is asked for. '
        'Nothing that is trained needs it, so the pipeline does not compute '
        'it. Make it an input: the gradient of an input is always available.',
      )
      for name, tensors in self._data.items()
    ]


def _in_words(name: str) -> str:
  return 'the targets' if name == TARGETS_VALUE else f'side input {name!r}'


def _gradients_of(name: str, done: Gradients, m: int) -> list[Any]:
  return done.of_given(name, m)


def _pick(nests: Mapping[str, Any], name: str) -> Any:
  return nests[TARGETS] if name == TARGETS_VALUE else nests[SIDE_INPUTS][name]
