# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Who hands which named value to whom, found and checked from Params alone."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import builder_layers

from lingvo_gpipe.pipeline import named_values
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
)

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
    if named_values.declared(params) != named_values.Declaration():
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
  taken = {n for _, p in layers for n in named_values.declared(p).takes}
  put = [(n, by) for by, p in layers for n in named_values.declared(p).puts]
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
    for name in named_values.declared(params).puts:
      putters[name].append(layer)
  problems = [
    f'{name!r} is put twice or more, by {" and ".join(by)}: each value needs '
    'a name of its own'
    for name, by in putters.items()
    if len(by) > 1
  ]
  there = set(side_inputs)
  for layer, params in layers:
    declared = named_values.declared(params)
    for name in dict.fromkeys(declared.takes):
      if name not in putters:
        problems.append(
          f'{layer} takes {name!r}, which no layer puts and which is not '
          f'among side_inputs, {list(side_inputs)}'
        )
      elif name not in there:
        problems.append(
          f'{layer} takes {name!r} before it is put, by {putters[name][0]}'
        )
    there.update(declared.puts)
  return problems


def _unknown_owners(
  layers: Sequence[NamedParams], owners: Sequence[str]
) -> list[str]:
  """What is wrong with references to the weights of other layers."""
  problems = []
  for layer, params in layers:
    for reference in named_values.declared(params).weights_of.values():
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
  """Tells the layer from the part of its theta in 'layer.a.b'.

  Args:
    reference: A value of `weights_of`.
    names: The names of all layers; a name may itself have dots.

  Returns:
    The layer's name, None if there is none; and the part, '' for all.
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
  """Which values cross between cells.

  Args:
    cells: The layers of each cell, all checked by `check`.
    side_inputs: As there.
  """
  home: dict[str, int] = {}
  takers: dict[str, list[int]] = collections.defaultdict(list)
  for k, layers in enumerate(cells):
    for _, params in layers:
      declared = named_values.declared(params)
      home.update((name, k) for name in declared.puts)
      for name in declared.takes:
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
