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
  layers_in,
)
from lingvo_gpipe.pipeline.param_values import check_layers

# The sequences that a layer is in, outermost first: the name of each, and
# Params whose base Params (dtypes and the like) the layers in it inherit.
_Containers = tuple[tuple[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class FlatLayer:
  params: Any
  containers: _Containers = ()

  @property
  def name(self) -> str:
    """Its name as variables have it, without the pipeline's own."""
    return '/'.join([*(name for name, _ in self.containers), self.params.name])


def flatten(sub: Any, owner: Any) -> list[FlatLayer]:
  """Replaces sequences of layers, and lists to any depth, by their layers.

  They inherit the base Params of Params `owner`; one without a name is called
  layer_N, after its place. Raises ValueError if there is no layer, something is
  none, or two have one name.
  """
  check_layers(sub, f'{owner.name}.sub', nested=True)
  layers = list(_flatten(sub, (), _base_of(owner), owner.name))
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
  sub: Any, containers: _Containers, base: Any, owner: str
) -> Iterator[FlatLayer]:
  for number, params in enumerate(tf.nest.flatten([sub])):
    params = base_layer.BaseLayer.CopyBaseParams(base, params.Copy())
    if not params.name:
      params.name = f'layer_{number}'
    inner = _base_of(params)
    here = (*containers, (params.name, inner))
    if params.cls is builder_layers.SequentialLayer:
      _check_output(params, owner)
      runs = [here]
      if params.repeat > 1:
        # The names that SequentialLayer gives its repetitions.
        runs = [(*here, (f'{i:03d}', inner)) for i in range(params.repeat)]
      for run in runs:
        yield from _flatten(params.sub, run, params, owner)
    elif params.cls is FeatureExtractionLayer and not params.num_act_outputs:
      yield from _flatten(params.sub, here, params, owner)
    else:
      yield FlatLayer(params, containers)


def _check_output(params: Any, owner: str) -> None:
  if params.save_output:
    raise ValueError(
      f'{owner}.sub: SequentialLayer {params.name!r} has save_output, but in '
      'a pipeline its layers may lie in several cells. Use a FetchLayer, or '
      'put the value aside with a PutLayer.'
    )


def _base_of(params: Any) -> Any:
  return base_layer.BaseLayer.CopyBaseParams(
    params, base_layer.BaseLayer.Params()
  )


def cell_params(name: str, layers: Sequence[FlatLayer], depth: int = 0) -> Any:
  sub = []
  for container, group in itertools.groupby(
    layers, lambda layer: [n for n, _ in layer.containers[depth : depth + 1]]
  ):
    members = list(group)
    if not container:
      sub += [layer.params for layer in members]
      continue
    nested = cell_params(container[0], members, depth + 1)
    _, base = members[0].containers[depth]
    sub.append(base_layer.BaseLayer.CopyBaseParams(base, nested))
  return FeatureExtractionLayer.Params().Set(name=name, sub=sub)


def without_cell_names(cells: Sequence[Any], what: str) -> list[Any]:
  """Params whose cells' names are in no variable's, if these stay unique."""
  is_run = [issubclass(cell.cls, FeatureExtractionLayer) for cell in cells]
  names = collections.Counter(
    name
    for run in itertools.compress(cells, is_run)
    for name, *_ in layers_in(run, '')
  )
  shared = sorted(name for name, count in names.items() if count > 1)
  if shared:
    tf.logging.warning(
      '%s: layers of different cells have the same names, %s. So the names of '
      'their variables contain the cell, and a checkpoint fits only the same '
      'cut. Give each layer a name of its own.',
      what,
      shared,
    )
    return list(cells)
  return [
    cell.Copy().Set(
      child_variable_scope_override={
        f'{cell.variable_name_prefix}{sub.name}': [] for sub in cell.sub
      }
      | cell.child_variable_scope_override
    )
    if run
    else cell
    for cell, run in zip(cells, is_run, strict=True)
  ]
