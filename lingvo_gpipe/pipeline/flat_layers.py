# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A model's layers as one flat list, and runs of that list as Params again.

A pipeline can be cut between any two layers of the list, also inside a
`SequentialLayer` and between its repetitions. The variables keep the names that
they have in the uncut model:

```
  sub = [embed, Sequential 'blocks' x 2 [ffn, norm], softmax]

  list:  embed | blocks/000/ffn  blocks/000/norm | blocks/001/ffn ... | softmax
  cell:  [embed, blocks [000 [ffn]]]  [blocks [000 [norm], 001 [ffn]]]  ...
```
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, builder_layers

from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
)
from lingvo_gpipe.pipeline.param_values import check_layers


@dataclasses.dataclass(frozen=True)
class _Container:
  """A sequence that layers were in.

  Attributes:
    name: Its name, part of its variables' names.
    base: Params whose base Params (dtypes and the like) its layers inherit.
  """

  name: str
  base: Any


@dataclasses.dataclass(frozen=True)
class FlatLayer:
  """One layer of the list.

  Attributes:
    params: Its Params, a copy, with a name.
    containers: The sequences that it is in, outermost first.
  """

  params: Any
  containers: tuple[_Container, ...] = ()

  @property
  def name(self) -> str:
    """Its name as variables have it, without the pipeline's own."""
    return '/'.join([*(c.name for c in self.containers), self.params.name])


def flatten(sub: Any, owner: Any) -> list[FlatLayer]:
  """Replaces sequences of layers by what is in them.

  Args:
    sub: Params of layers, in order; lists nested to any depth.
    owner: Params of the layer that they belong to, whose base Params they
      inherit; its name is in errors.

  Returns:
    All layers. One without a name is called layer_N, after its place.

  Raises:
    ValueError: There is no layer, something is no Params of one, or two have
      the same name.
  """
  check_layers(sub, f'{owner.name}.sub', nested=True)
  base = base_layer.BaseLayer.Params()
  base_layer.BaseLayer.CopyBaseParams(owner, base)
  layers = list(_flatten(sub, (), base, owner.name))
  if not layers:
    raise ValueError(
      f'{owner.name}.sub has no layer; set a list of layer Params.'
    )
  counts = collections.Counter(layer.name for layer in layers)
  repeated = sorted(name for name, count in counts.items() if count > 1)
  if repeated:
    raise ValueError(
      f'{owner.name}.sub has several layers named {", ".join(repeated)}. Their '
      'variables would have the same names: give each a name of its own, or '
      'repeat them by builder_layers.SequentialLayer with repeat.'
    )
  return layers


def _flatten(
  sub: Any, containers: tuple[_Container, ...], base: Any, owner: str
) -> Iterator[FlatLayer]:
  for number, params in enumerate(tf.nest.flatten([sub])):
    params = base_layer.BaseLayer.CopyBaseParams(base, params.Copy())
    if not params.name:
      params.name = f'layer_{number}'
    if params.cls is builder_layers.SequentialLayer:
      yield from _flatten_sequential(params, containers, owner)
    elif params.cls is FeatureExtractionLayer and not params.num_act_outputs:
      inside = (*containers, _Container(params.name, _base_of(params)))
      yield from _flatten(params.sub, inside, params, owner)
    else:
      yield FlatLayer(params, containers)


def _flatten_sequential(
  params: Any, containers: tuple[_Container, ...], owner: str
) -> Iterator[FlatLayer]:
  if params.save_output:
    raise ValueError(
      f'{owner}.sub: SequentialLayer {params.name!r} has save_output, but in '
      'a pipeline its layers may lie in several cells. Use a FetchLayer, or '
      'put the value aside with a PutLayer.'
    )
  base = _base_of(params)
  here = (*containers, _Container(params.name, base))
  if params.repeat <= 1:
    yield from _flatten(params.sub, here, params, owner)
    return
  for i in range(params.repeat):
    # The names that SequentialLayer gives its repetitions.
    repetition = (*here, _Container(f'{i:03d}', base))
    yield from _flatten(params.sub, repetition, params, owner)


def _base_of(params: Any) -> Any:
  return base_layer.BaseLayer.CopyBaseParams(
    params, base_layer.BaseLayer.Params()
  )


def cell_params(name: str, layers: Sequence[FlatLayer]) -> Any:
  """Params of a cell that runs consecutive layers of the list."""
  return FeatureExtractionLayer.Params().Set(
    name=name, sub=_nested(layers, depth=0)
  )


def _nested(layers: Sequence[FlatLayer], depth: int) -> list[Any]:
  """The layers' Params, those of one container together in it again."""
  nested = []
  for name, group in itertools.groupby(
    layers, lambda layer: _container_name(layer, depth)
  ):
    members = list(group)
    if name is None:
      nested += [layer.params for layer in members]
      continue
    container = FeatureExtractionLayer.Params().Set(
      name=name, sub=_nested(members, depth + 1)
    )
    base = members[0].containers[depth].base
    nested.append(base_layer.BaseLayer.CopyBaseParams(base, container))
  return nested


def _container_name(layer: FlatLayer, depth: int) -> str | None:
  containers = layer.containers
  return containers[depth].name if depth < len(containers) else None
