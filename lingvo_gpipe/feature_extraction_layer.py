# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run of layers, and cutting a list of layers into such runs."""

import itertools
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import builder_layers

from lingvo_gpipe import partitioner
from lingvo_gpipe.costing import weights
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
)
from lingvo_gpipe.pipeline.param_values import check_layers

__all__ = ['FeatureExtractionLayer', 'PartitionSequentialLayers']


def PartitionSequentialLayers(
  params: Any, num_partitions: int, *shapes: Any
) -> list[Any]:
  """Cuts a sequence of layers into cells whose costs are as equal as possible.

  The cost of a layer is its FLOPs if all layers give them for the given shapes
  (`FPropMeta`), and otherwise its number of parameters.

  Args:
    params: Params of a SequentialLayer or FeatureExtractionLayer, or a list of
      layer Params; SequentialLayers in it are flattened.
    num_partitions: The number of cells, K. None is empty.
    *shapes: Optional: one tshape.Shape, of the first layer's input.

  Returns K FeatureExtractionLayer Params, named d0, d1, ... The layers in them
  are copies, named cell_000, cell_001, ... in order.
  """
  check_layers(params, 'params', nested=True)
  layers = [layer.Copy() for layer in _Flatten(params)]
  if num_partitions not in range(1, len(layers) + 1):
    raise ValueError(
      f'num_partitions is {num_partitions!r}, but there are {len(layers)} '
      'layers, of which each cell needs at least one: use a whole number from '
      f'1 to {len(layers)}.'
    )
  for i, layer in enumerate(layers):
    layer.name = f'cell_{i:03d}'
  costs = _Costs(layers, shapes)
  sizes = partitioner.balance(costs, num_partitions)
  tf.logging.info('Layers of each cell: %s', sizes)
  rest = iter(layers)
  return [
    FeatureExtractionLayer.Params().Set(
      name=f'd{k}', sub=list(itertools.islice(rest, size))
    )
    for k, size in enumerate(sizes)
  ]


def _Flatten(params: Any) -> list[Any]:
  layers: list[Any] = []
  for layer in tf.nest.flatten([params]):
    if layer.cls in (builder_layers.SequentialLayer, FeatureExtractionLayer):
      repeat = layer.Get('repeat') if 'repeat' in layer else 1
      layers += repeat * _Flatten(layer.sub)
    else:
      layers.append(layer)
  return layers


def _Costs(layers: Sequence[Any], shapes: Sequence[Any]) -> list[float]:
  if shapes:
    costs = []
    try:
      for layer in layers:
        meta = layer.cls.FPropMeta(layer, *shapes)
        costs.append(float(meta.flops))
        shapes = meta.out_shapes
      return costs
    except NotImplementedError as error:
      tf.logging.info('Cutting by parameters, not by FLOPs: %s', error)
  return [float(weights.count_parameters(layer)) for layer in layers]
