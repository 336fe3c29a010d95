# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Values that layers pass by name to later layers, past those between.

A layer puts a value aside, later ones take it, inside a `scope`, which the
pipeline opens around each cell, and a user around layers without a pipeline.

Each put and each take splits the value in two: its gradient is never a sum of
more than two terms, so no bit depends on where the takers are:

```
  value --+--> goes on                        d value = d goes on + d aside
          '--> aside --+--> first taker       d aside = d first + d rest
                       '--> rest --+--> second taker
                                   '--> rest ...
```
"""

import collections
import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.engine.tensors import barrier
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
  layers_in,
)


@dataclasses.dataclass(frozen=True)
class Declaration:
  """What a layer's Params say of named values.

  Attributes:
    puts: Names of values that it puts aside.
    takes: Names of values put by earlier layers, or given as side inputs.
    weights_of: Maps a name in the layer's theta to the layer whose weights
      are to stand there; 'layer.a.b' stands for the part a.b of its theta.
  """

  puts: Sequence[str] = ()
  takes: Sequence[str] = ()
  weights_of: Mapping[str, str] = dataclasses.field(default_factory=dict)


def declared(params: Any) -> Declaration:
  """What a layer's class declares by a class method `NamedValues(params)`."""
  declare = getattr(params.cls, 'NamedValues', None)
  return Declaration() if declare is None else declare(params)


class Scope:
  """The values that are there while layers run: what the next taker splits."""

  def __init__(self, given: Mapping[str, Any]):
    self.values = dict(given)

  def put(self, name: str, value: Any) -> Any:
    """Puts a value, a nest of tensors or None, aside for later layers.

    Returns what to use from then on in its place, so that no bit of the
    gradient depends on the cut.
    """
    if name in self.values:
      raise ValueError(
        f'The value {name!r} is put aside a second time; give each its name.'
      )
    self.values[name] = value
    return self.take(name)

  def take(self, name: str) -> Any:
    if name not in self.values:
      raise ValueError(
        f'There is no value {name!r} to take; there are '
        f'{sorted(self.values)}. In a pipeline the Params of a layer must '
        'declare what it puts and takes.'
      )
    value = self.values[name]
    mine = barrier(value, dense=True)
    self.values[name] = barrier(value, dense=True)
    return mine


_SCOPES = py_utils.ThreadLocalStack()


@contextlib.contextmanager
def scope(given: Mapping[str, Any] | None = None) -> Iterator[Scope]:
  """Inside, layers can put values, and take these and those given, by name.

  Values are nests of tensors or None. Outer scopes are not visible.
  """
  opened = Scope(given or {})
  _SCOPES.stack.append(opened)
  try:
    yield opened
  finally:
    _SCOPES.stack.pop()


def current_scope() -> Scope:
  """The innermost scope; raises ValueError if there is none."""
  if not _SCOPES.stack:
    raise ValueError(
      'Values can be put and taken in a pipeline, where the Params of a layer '
      'must declare what it puts and takes, or outside of it inside '
      '`with lingvo_gpipe.pipeline.named_values.scope(side_inputs):`.'
    )
  return _SCOPES.stack[-1]


# A layer's name as the user knows it, and its Params.
NamedParams = tuple[str, Any]


@dataclasses.dataclass(frozen=True)
class CellWiring:
  """The names of values that a cell gives later cells or takes."""

  puts: tuple[str, ...] = ()
  takes: tuple[str, ...] = ()
  side_inputs: tuple[str, ...] = ()


def layers_of_cell(params: Any) -> list[NamedParams]:
  is_run = issubclass(params.cls, FeatureExtractionLayer)
  layers = layers_in(params, '' if is_run else params.name)
  return [(name, layer) for name, _, layer in layers]


def check(
  layers: Sequence[NamedParams],
  side_inputs: Sequence[str] = (),
  *,
  weights_only: Sequence[NamedParams] = (),
  what: str = 'The pipeline',
) -> None:
  """Raises ValueError if named values and tied weights do not fit together.

  The layers are in order. Those in `weights_only` can put or take nothing. A
  warning says which values no layer takes.
  """
  owners = [name for name, _ in (*weights_only, *layers)]
  problems = [
    f'{name} is not one of the cells; only layers in them can put or take '
    'values and use the weights of others'
    for name, params in weights_only
    if any(dataclasses.astuple(declared(params)))
  ]
  there = dict.fromkeys(side_inputs, 'the side inputs')
  taken: set[str] = set()
  for layer, params in layers:
    says = declared(params)
    problems += [
      f'{layer} takes {name!r}, which no layer before it puts and which is not '
      f'among side_inputs, {list(side_inputs)}'
      for name in dict.fromkeys(says.takes)
      if name not in there
    ]
    problems += [
      f'{layer} puts {name!r}, as {there[name]} did: each value needs a name '
      'of its own'
      for name in says.puts
      if name in there
    ]
    there |= dict.fromkeys(says.puts, layer)
    taken.update(says.takes)
    for reference in says.weights_of.values():
      problems += _wrong_reference(layer, reference, owners)
  if problems:
    raise ValueError(
      f'{what} has named values or weights that do not fit together:'
      + ''.join(f'\n  {problem}' for problem in problems)
    )
  unused = [f'{n!r}, put by {by}' for n, by in there.items() if n not in taken]
  if unused:
    tf.logging.warning('%s: no layer takes %s.', what, '; '.join(unused))


def _wrong_reference(
  layer: str, reference: str, owners: Sequence[str]
) -> Iterator[str]:
  owner, _ = find_owner(reference, owners)
  wrong = ''
  if owner is None:
    wrong = f'the layers are {", ".join(owners)}'
  elif owner == layer:
    wrong = 'that is itself'
  elif owners.count(owner) > 1:
    wrong = f'{owners.count(owner)} layers have that name'
  if wrong:
    yield f'{layer} uses the weights of {reference!r}, but {wrong}'


def find_owner(reference: str, names: Sequence[str]) -> tuple[str | None, str]:
  """Splits 'layer.a.b' into the layer, whose name may have dots, and 'a.b'."""
  owner = reference
  while owner not in names:
    owner, dot, _ = owner.rpartition('.')
    if not dot:
      return None, ''
  return owner, reference[len(owner) + 1 :]


def wire(
  cells: Sequence[Sequence[NamedParams]], side_inputs: Sequence[str] = ()
) -> list[CellWiring]:
  """Which values cross between cells, whose layers `check` has checked."""
  home: dict[str, int] = {}
  takers: dict[str, set[int]] = collections.defaultdict(set)
  for k, layers in enumerate(cells):
    for _, params in layers:
      says = declared(params)
      home |= dict.fromkeys(says.puts, k)
      for name in says.takes:
        takers[name].add(k)
  return [
    CellWiring(
      tuple(n for n, j in home.items() if j == k < max(takers[n], default=k)),
      tuple(n for n, j in home.items() if j < k and k in takers[n]),
      tuple(n for n in side_inputs if k in takers[n]),
    )
    for k in range(len(cells))
  ]
