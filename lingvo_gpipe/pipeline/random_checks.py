# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which layers have ops that cannot be repeated, or masks that are all equal.

Neither gives an error in TensorFlow; `graph_walks` finds the ops. Of those with
a state, such as Lingvo's DropoutLayer, the engine keeps the results, which
takes memory. Stateless random ops whose seeds do not come from the cell's step
seed are refused: all micro-batches would get the same numbers.
"""

from collections.abc import Mapping

import lingvo.compat as tf
from lingvo.core import base_layer, hyperparams
from lingvo.core import layers as lingvo_layers

from lingvo_gpipe.engine.cell_function import CellFunction
from lingvo_gpipe.pipeline.feature_extraction_layer import descendants
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell


def explain(
  cell: LingvoCell,
  function: CellFunction,
  culprits: Mapping[tf.Operation, str],
) -> list[str]:
  """For each layer with ops that cannot be repeated, what can be done.

  The ops come with the types of op that are why.
  """
  texts: dict[str, str] = {}
  for op, culprit in culprits.items():
    layer = _layer_of(cell, function, op)
    texts.setdefault(layer.path, _describe(layer, culprit))
  return list(texts.values())


def refuse_unseeded(
  cell: LingvoCell, function: CellFunction, op: tf.Operation
) -> None:
  """Raises ValueError: the seeds of an op do not depend on the micro-batch."""
  layer = _layer_of(cell, function, op)
  raise ValueError(
    f'Layer {layer.path} ({type(layer).__name__}) draws random numbers ('
    f'{op.name}, {op.type}) whose seeds do not depend on the micro-batch: all '
    'would get the same. Layers built on recurrent.Recurrent (RNNs, '
    'RepeatLayer) set their seeds by name; turn off their dropout inside of '
    'the pipeline, or put the dropout into a layer of its own. Other layers '
    'should take seeds from py_utils.GenerateStepSeedPair.'
  )


def _layer_of(
  cell: LingvoCell, function: CellFunction, op: tf.Operation
) -> base_layer.BaseLayer:
  index = function.graph.get_operations().index(op)
  paths = [
    path
    for path, start, end in function.notes.layer_ops
    if start <= index < end
  ]
  by_path = {
    layer.path: layer for root in cell.layers for layer in descendants(root)
  }
  return by_path[max(paths, key=len)] if paths else cell.layers[0]


def _describe(layer: base_layer.BaseLayer, op_type: str) -> str:
  what = (
    f'layer {layer.path} ({type(layer).__name__}) uses {op_type}, which gives '
    'something else when it runs again'
  )
  templates = [
    f'{inner.path}.params.{name}'
    for inner in descendants(layer)
    for name, value in inner.params.IterParams()
    if isinstance(value, hyperparams.InstantiableParams)
    and value.cls is lingvo_layers.DropoutLayer
  ]
  if templates:
    return (
      f'{what}; set {" and ".join(templates)} to '
      'lingvo.core.layers.DeterministicDropoutLayer.Params()'
    )
  if 'Random' in op_type or op_type.startswith(('Stateful', 'Truncated')):
    return (
      f'{what}; draw random numbers with tf.random.stateless_* and the seeds '
      'of py_utils.GenerateStepSeedPair'
    )
  return what
