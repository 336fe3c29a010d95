# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Values that layers pass by name to later layers, past those between.

A layer puts a value aside, later ones take it. Both happen inside a `scope`,
which the pipeline opens around each cell and a user around layers that run
without one:

```
  with named_values.scope({'mask': mask}) as values:
    x = values.put('skip', x)     # by the layers, through the functions below
    ...
    x = x + values.take('skip')
```

Gradients must not depend on where the pipeline is cut, to the last bit. So the
gradient of a value is never a sum of more than two terms: each put and each
take splits the value in two, and the terms are added in one order wherever the
takers are:

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
from lingvo.core import builder_layers, py_utils

from lingvo_gpipe.engine.tensors import barrier
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
)


@dataclasses.dataclass(frozen=True)
class Declaration:
  """What a layer's Params say of named values.

  Attributes:
    puts: Names of values that it puts aside.
    takes: Names of values that it takes, put by earlier layers or given to
      the pipeline as side inputs.
    weights_of: Maps a name in the layer's theta to the layer whose weights
      are to stand there; 'layer.a.b' stands for the part a.b of its theta.
  """

  puts: Sequence[str] = ()
  takes: Sequence[str] = ()
  weights_of: Mapping[str, str] = dataclasses.field(default_factory=dict)


def declared(params: Any) -> Declaration:
  """What a layer's Params declare: nothing for layers without named values.

  The class declares by a class method `NamedValues(params)`; see
  `named_layers.NamedValueLayer`.
  """
  declare = getattr(params.cls, 'NamedValues', None)
  return Declaration() if declare is None else declare(params)


class Scope:
  """The values that are there while layers run."""

  def __init__(self, given: Mapping[str, Any]):
    """Starts with the given values: nests of tensors or None, by name."""
    self._values = dict(given)
    self._put: list[str] = []

  @property
  def put_names(self) -> tuple[str, ...]:
    """The names put so far, in order."""
    return tuple(self._put)

  def rest(self, name: str) -> Any:
    """The value that the next taker would get a part of."""
    return self._values[name]

  def put(self, name: str, value: Any) -> Any:
    """See the function `put`."""
    if name in self._values:
      raise ValueError(
        f'The value {name!r} is put aside a second time; give each its name.'
      )
    goes_on, self._values[name] = split(value)
    self._put.append(name)
    return goes_on

  def take(self, name: str) -> Any:
    """See the function `take`."""
    if name not in self._values:
      raise ValueError(
        f'There is no value {name!r} to take; there are '
        f'{sorted(self._values)}. In a pipeline the Params of a layer must '
        'declare what it puts and takes.'
      )
    mine, self._values[name] = split(self._values[name])
    return mine


def split(value: Any) -> tuple[Any, Any]:
  """A nest twice, as two nodes: its gradient is a sum of two terms."""
  return barrier(value, dense=True), barrier(value, dense=True)


_SCOPES = py_utils.ThreadLocalStack()


@contextlib.contextmanager
def scope(given: Mapping[str, Any] | None = None) -> Iterator[Scope]:
  """Inside, layers can put and take values; outer scopes are not visible.

  Values that are there from the start are given by name.
  """
  values = Scope(given or {})
  _SCOPES.stack.append(values)
  try:
    yield values
  finally:
    _SCOPES.stack.pop()


def put(name: str, value: Any) -> Any:
  """Puts a value, a nest of tensors or None, aside for later layers.

  Returns:
    The value to use from then on in place of `value`. Using `value` as well
    would make its gradient a sum whose order depends on the cut.

  Raises:
    ValueError: There is a value of this name already, or no scope.
  """
  return _innermost(f'put {name!r} aside').put(name, value)


def take(name: str) -> Any:
  """Returns the value that was put aside, or given, under a name.

  Raises:
    ValueError: There is no value of this name, or no scope.
  """
  return _innermost(f'take {name!r}').take(name)


def _innermost(purpose: str) -> Scope:
  if not _SCOPES.stack:
    raise ValueError(
      f'Cannot {purpose} outside of a pipeline: run the layers inside '
      '`with lingvo_gpipe.pipeline.named_values.scope(side_inputs):`. In a '
      'pipeline the Params of a layer must declare what it puts and takes.'
    )
  return _SCOPES.stack[-1]


# -- Who hands which value to whom, by Params alone.

# A layer's name as the user knows it, and its Params.
NamedParams = tuple[str, Any]


@dataclasses.dataclass(frozen=True)
class CellWiring:
  """The named values that reach or leave a cell.

  Attributes:
    puts: Names that the cell puts aside for later cells.
    takes: Names that it takes from earlier cells.
    side_inputs: Side inputs that it takes.
  """

  puts: tuple[str, ...] = ()
  takes: tuple[str, ...] = ()
  side_inputs: tuple[str, ...] = ()


def layers_of_cell(params: Any) -> list[NamedParams]:
  """The layers of a cell, in order, named as their variables are."""
  if issubclass(params.cls, FeatureExtractionLayer):
    return list(_inside(params, ''))
  return list(_layers(params, params.name))


def _layers(params: Any, name: str) -> Iterator[NamedParams]:
  if issubclass(
    params.cls, (FeatureExtractionLayer, builder_layers.SequentialLayer)
  ):
    yield from _inside(params, f'{name}/')
  else:
    yield name, params


def _inside(params: Any, prefix: str) -> Iterator[NamedParams]:
  """The layers in a sequence."""
  if issubclass(params.cls, FeatureExtractionLayer):
    prefixes = [prefix + params.variable_name_prefix]
  elif params.repeat > 1:
    # The names that SequentialLayer gives its repetitions.
    prefixes = [f'{prefix}{i:03d}/' for i in range(params.repeat)]
  else:
    prefixes = [prefix]
  for before in prefixes:
    for sub in params.sub:
      yield from _layers(sub, f'{before}{sub.name}')


def check(
  layers: Sequence[NamedParams],
  side_inputs: Sequence[str] = (),
  *,
  weights_only: Sequence[NamedParams] = (),
  what: str = 'The pipeline',
) -> None:
  """Checks that named values and tied weights are where they are looked for.

  A warning in the log says which values no layer takes.

  Args:
    layers: All layers, in the order in which they run.
    side_inputs: Names of the side inputs that the pipeline is given.
    weights_only: Further layers, whose weights can be used but which can put
      or take nothing.
    what: What they are the layers of, for messages.

  Raises:
    ValueError: A name is taken that is never put, put twice, or taken before
      it is put; or weights of an unknown layer are used. One error lists all.
  """
  problems: list[str] = []
  for name, params in weights_only:
    if declared(params) != Declaration():
      problems.append(
        f'{name} is not one of the cells; only layers in them can put or take '
        'values and use the weights of others'
      )
  problems += _misplaced_values(layers, side_inputs)
  owners = [name for name, _ in (*weights_only, *layers)]
  problems += _unknown_owners(layers, owners)
  if problems:
    raise ValueError(
      f'{what} has named values or weights that do not fit together:'
      + ''.join(f'\n  {problem}' for problem in problems)
    )
  taken = {n for _, p in layers for n in declared(p).takes}
  put = [(n, by) for by, p in layers for n in declared(p).puts]
  unused = [f'{name!r}, put by {by}' for name, by in put if name not in taken]
  unused += [f'{n!r}, a side input' for n in side_inputs if n not in taken]
  if unused:
    tf.logging.warning('%s: no layer takes %s.', what, '; '.join(unused))


def _misplaced_values(
  layers: Sequence[NamedParams], side_inputs: Sequence[str]
) -> list[str]:
  """What is wrong with names that are put or taken."""
  putters = collections.defaultdict(list)
  for name in side_inputs:
    putters[name].append('the side inputs')
  for layer, params in layers:
    for name in declared(params).puts:
      putters[name].append(layer)
  problems = [
    f'{name!r} is put twice or more, by {" and ".join(by)}: each value needs '
    'a name of its own'
    for name, by in putters.items()
    if len(by) > 1
  ]
  there = set(side_inputs)
  for layer, params in layers:
    says = declared(params)
    for name in dict.fromkeys(says.takes):
      if name not in putters:
        problems.append(
          f'{layer} takes {name!r}, which no layer puts and which is not '
          f'among side_inputs, {list(side_inputs)}'
        )
      elif name not in there:
        problems.append(
          f'{layer} takes {name!r} before it is put, by {putters[name][0]}'
        )
    there.update(says.puts)
  return problems


def _unknown_owners(
  layers: Sequence[NamedParams], owners: Sequence[str]
) -> list[str]:
  """What is wrong with references to the weights of other layers."""
  problems = []
  for layer, params in layers:
    for reference in declared(params).weights_of.values():
      owner, _ = find_owner(reference, owners)
      if owner is None:
        problems.append(
          f'{layer} uses the weights of {reference!r}, but the layers are '
          f'{_some(owners)}'
        )
      elif owner == layer:
        problems.append(f'{layer} uses the weights of itself, {reference!r}')
      elif owners.count(owner) > 1:
        problems.append(
          f'{layer} uses the weights of {reference!r}, but '
          f'{owners.count(owner)} layers have that name'
        )
  return problems


def _some(names: Sequence[str]) -> str:
  shown = ', '.join(names[:20])
  return f'{shown}, ... ({len(names)})' if len(names) > 20 else shown


def find_owner(reference: str, names: Sequence[str]) -> tuple[str | None, str]:
  """Tells the layer, None if there is none, from the part of 'layer.a.b'.

  A layer's name may itself have dots. The part is '' for all of its theta.
  """
  known = set(names)
  owner = reference
  while owner not in known:
    owner, dot, _ = owner.rpartition('.')
    if not dot:
      return None, ''
  return owner, reference[len(owner) + 1 :]


def wire(
  cells: Sequence[Sequence[NamedParams]], side_inputs: Sequence[str] = ()
) -> list[CellWiring]:
  """Which values cross between cells, whose layers `check` has checked."""
  home: dict[str, int] = {}
  takers: dict[str, list[int]] = collections.defaultdict(list)
  for k, layers in enumerate(cells):
    for _, params in layers:
      says = declared(params)
      home.update((name, k) for name in says.puts)
      for name in says.takes:
        if k not in takers[name]:
          takers[name].append(k)
  crossing = {
    name: k for name, k in home.items() if any(j > k for j in takers[name])
  }
  return [
    CellWiring(
      puts=tuple(name for name, home_k in crossing.items() if home_k == k),
      takes=tuple(
        name
        for name, home_k in crossing.items()
        if k in takers[name] and home_k < k
      ),
      side_inputs=tuple(name for name in side_inputs if k in takers[name]),
    )
    for k in range(len(cells))
  ]
