# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Refuses random ops that would give wrong gradients, or equal masks.

Two kinds give no error in TensorFlow, only wrong results:

* Stateful ops, such as those of Lingvo's DropoutLayer: the recomputed forward
  pass draws other numbers than the first one did.
* Stateless ops whose seeds do not come from the cell's step seed: layers built
  on Lingvo's Recurrent set them by the name of an op, so all micro-batches get
  the same numbers.
"""

from collections.abc import Iterable
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, hyperparams, py_utils
from lingvo.core import layers as lingvo_layers

from lingvo_gpipe.engine import graph_function
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell, descendants


def check(
  cell: LingvoCell,
  graph: tf.Graph,
  *,
  recompute: bool,
  num_micro_batches: int,
) -> None:
  """Checks the random ops of a traced cell.

  Args:
    cell: The cell.
    graph: Its traced graph.
    recompute: Whether any micro-batch is recomputed.
    num_micro_batches: M.

  Raises:
    ValueError: The cell has a random op that is not supported; the error names
      the layer and the template to set.
  """
  kinds = _RandomOps(graph)
  operations = graph.get_operations()
  seeded: set[str] | None = None
  for index, op in enumerate(operations):
    stateful, stateless = kinds.of(op)
    if stateful and recompute:
      _refuse_stateful(_layer_at(cell, index), stateful)
    if stateless and num_micro_batches > 1:
      if seeded is None:
        seeded = _reached_from(cell.trace.seed_ops)
      if op.name not in seeded:
        _refuse_unseeded(_layer_at(cell, index), op)


class _RandomOps:
  """Finds random ops, in functions that an op calls too."""

  def __init__(self, graph: tf.Graph):
    self._definitions = graph_function.definitions(graph)
    self._known: dict[str, tuple[str, bool]] = {}

  def of(self, op: tf.Operation) -> tuple[str, bool]:
    """The type of a stateful random op, or ''; whether there is a stateless."""
    return self._merge(op.type, self._called(op.node_def.attr))

  def _called(self, attributes: Any) -> Iterable[str]:
    for value in attributes.values():
      if value.HasField('func'):
        yield value.func.name
      elif value.HasField('list'):
        for function in value.list.func:
          yield function.name

  def _merge(self, op_type: str, called: Iterable[str]) -> tuple[str, bool]:
    stateful = op_type if _is_stateful(op_type) else ''
    stateless = _is_stateless(op_type)
    for name in called:
      inner_stateful, inner_stateless = self._in_function(name)
      stateful = stateful or inner_stateful
      stateless = stateless or inner_stateless
    return stateful, stateless

  def _in_function(self, name: str) -> tuple[str, bool]:
    if name not in self._known:
      self._known[name] = ('', False)
      stateful, stateless = '', False
      definition = self._definitions.get(name)
      for node in definition.node_def if definition else ():
        found = self._merge(node.op, self._called(node.attr))
        if node.op in self._definitions:
          called = self._in_function(node.op)
          found = (found[0] or called[0], found[1] or called[1])
        stateful, stateless = stateful or found[0], stateless or found[1]
      self._known[name] = (stateful, stateless)
    return self._known[name]


def _is_stateful(op_type: str) -> bool:
  return op_type in py_utils._STATEFUL_RANDOM_OPS or op_type.startswith(
    ('StatefulUniform', 'StatefulStandardNormal', 'StatefulTruncatedNormal')
  )


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


def _refuse_stateful(layer: base_layer.BaseLayer, op_type: str) -> None:
  templates = _dropout_templates(layer)
  if templates:
    remedy = (
      f'Set {" and ".join(templates)} to '
      'lingvo.core.layers.DeterministicDropoutLayer.Params()'
    )
  else:
    remedy = (
      'Draw them with tf.random.stateless_* and the seeds of '
      'py_utils.GenerateStepSeedPair'
    )
  raise ValueError(
    f'Layer {layer.path} ({type(layer).__name__}) draws random numbers with '
    f'{op_type}, which gives others at each call: the recomputed forward pass '
    f'would not be the one whose gradient is wanted. {remedy}; or set '
    "recompute to 'never'."
  )


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
