# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Finds ops that recomputation cannot repeat, and masks that would be equal.

Neither gives an error in TensorFlow:

* Ops with a state, such as the random ops of Lingvo's DropoutLayer: a
  recomputed forward pass would draw other numbers than the first one did. The
  engine keeps what they returned, which takes memory.
* Stateless random ops whose seeds do not come from the cell's step seed:
  layers built on Lingvo's Recurrent set them by the name of an op, so all
  micro-batches get the same numbers. Such a cell is refused.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, hyperparams
from lingvo.core import layers as lingvo_layers

from lingvo_gpipe.engine import graph_function
from lingvo_gpipe.engine.repeatable import Repeatable, called
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell, descendants


def check_seeds(cell: LingvoCell, graph: tf.Graph) -> None:
  """Checks the seeds of a traced cell's stateless random ops.

  Args:
    cell: The cell.
    graph: Its traced graph.

  Raises:
    ValueError: Some do not depend on the micro-batch; it names the layer.
  """
  definitions = graph_function.definitions(graph)
  stateless = _StatelessRandomOps(definitions)
  seeded: set[str] | None = None
  for index, op in enumerate(graph.get_operations()):
    # To read an op's attributes takes time, and without functions they say
    # nothing.
    if not stateless.in_op(op.type, op.node_def.attr if definitions else {}):
      continue
    if seeded is None:
      # What a stateful op returns is another seed for each micro-batch.
      seeded = _reached_from(
        [*cell.trace.seed_ops, *_unrepeatable_ops(graph, definitions)]
      )
    if op.name not in seeded:
      _refuse_unseeded(_layer_at(cell, index), op)


def unrepeatable(cell: LingvoCell, graph: tf.Graph) -> dict[str, str]:
  """The layers with ops that recomputation cannot repeat.

  Args:
    cell: The cell.
    graph: Its traced graph.

  Returns:
    For each layer's path, which op it is and what can be done about it.
  """
  culprits = _unrepeatable_ops(graph, graph_function.definitions(graph))
  found: dict[str, str] = {}
  for index, op in enumerate(graph.get_operations()):
    if op in culprits:
      layer = _layer_at(cell, index)
      found.setdefault(layer.path, _describe(layer, culprits[op]))
  return found


def _unrepeatable_ops(
  graph: tf.Graph, definitions: dict[str, Any]
) -> dict[tf.Operation, str]:
  """The ops that recomputation cannot repeat, and the type that is why."""
  repeatable = Repeatable(graph, definitions)
  culprits = {op: repeatable.culprit(op) for op in graph.get_operations()}
  return {op: culprit for op, culprit in culprits.items() if culprit}


class _StatelessRandomOps:
  """Finds stateless random ops, in functions that an op calls too."""

  def __init__(self, definitions: Mapping[str, Any]):
    self._definitions = definitions
    self._known: dict[str, bool] = {}

  def in_op(self, op_type: str, attributes: Any) -> bool:
    return (
      _is_stateless(op_type)
      or self._in_function(op_type)
      or any(self._in_function(name) for name in called(attributes))
    )

  def _in_function(self, name: str) -> bool:
    if name not in self._known:
      self._known[name] = False
      definition = self._definitions.get(name)
      self._known[name] = any(
        self.in_op(node.op, node.attr)
        for node in (definition.node_def if definition else ())
      )
    return self._known[name]


def _is_stateless(op_type: str) -> bool:
  return op_type.startswith(
    ('StatelessRandom', 'StatelessTruncated', 'StatelessParameterized')
  ) or op_type in ('StatelessMultinomial', 'StatelessShuffle')


def _reached_from(ops: Iterable[tf.Operation]) -> set[str]:
  """Names of the ops that depend on any of `ops` by way of integers.

  Seeds are integers. A layer behind one that draws numbers depends on that
  one's seeds too, by its float inputs; that makes its own no better.
  """
  pending = list(ops)
  reached = {op.name for op in pending}
  while pending:
    for output in pending.pop().outputs:
      if not output.dtype.is_integer:
        continue
      for consumer in output.consumers():
        if consumer.name not in reached:
          reached.add(consumer.name)
          pending.append(consumer)
  return reached


def _layer_at(cell: LingvoCell, index: int) -> base_layer.BaseLayer:
  """The layer that made the op at an index of the graph; the innermost."""
  paths = [
    path for path, start, end in cell.trace.layer_ops if start <= index < end
  ]
  found = {
    layer.path: layer for root in cell.layers for layer in descendants(root)
  }
  return found[max(paths, key=len)] if paths else cell.layers[0]


def _describe(layer: base_layer.BaseLayer, op_type: str) -> str:
  what = (
    f'layer {layer.path} ({type(layer).__name__}) uses {op_type}, which gives '
    'something else when it runs again'
  )
  templates = _dropout_templates(layer)
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


def _dropout_templates(layer: base_layer.BaseLayer) -> list[str]:
  """Params that make a layer use DropoutLayer, as paths."""
  found = []
  for inner in descendants(layer):
    for name, value in inner.params.IterParams():
      if (
        isinstance(value, hyperparams.InstantiableParams)
        and value.cls is lingvo_layers.DropoutLayer
      ):
        found.append(f'{inner.path}.params.{name}')
  return found


def _refuse_unseeded(layer: base_layer.BaseLayer, op: tf.Operation) -> None:
  raise ValueError(
    f'Layer {layer.path} ({type(layer).__name__}) draws random numbers ('
    f'{op.name}, {op.type}) whose seeds do not depend on the micro-batch: all '
    'would get the same. Layers built on recurrent.Recurrent (RNNs, '
    'RepeatLayer) set their seeds by name; turn off their dropout inside of '
    'the pipeline, or put the dropout into a layer of its own. Other layers '
    'should take seeds from py_utils.GenerateStepSeedPair.'
  )
