# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Assertions in a cell say where they failed: cell, layer and micro-batch.

A cell is one function that every micro-batch calls, so TensorFlow's own text
names none of these.
"""

import contextlib
from collections.abc import Iterator

import lingvo.compat as tf
from tensorflow.python.ops import (
  control_flow_v2_func_graphs,
  gen_logging_ops,
)

from lingvo_gpipe.pipeline import seeds


@contextlib.contextmanager
def placed(cell: str, scope: seeds.LayerScope) -> Iterator[None]:
  """Inside, assertions of this thread also print where they are.

  Args:
    cell: The cell's name.
    scope: Its `seeds.layer_scope`.
  """
  plain = gen_logging_ops._assert

  def placed_assert(condition, data, summarize=None, name=None):
    if seeds.current_scope() is scope:
      where = f'in cell {cell}, layer {scope.path}'
      if _may_read(scope.context.vector.graph):
        number = tf.cast(scope.context.micro_batch, tf.int32)
        data = [*data, f'{where}, micro-batch', number]
      else:
        data = [*data, where]
    return plain(condition, data, summarize, name)

  gen_logging_ops._assert = placed_assert
  try:
    yield
  finally:
    gen_logging_ops._assert = plain


def _may_read(graph: tf.Graph) -> bool:
  """Whether what is built now may use tensors of a graph around it.

  A branch may. Lingvo's recurrent layers have functions that may not.
  """
  inner = tf.get_default_graph()
  while isinstance(inner, control_flow_v2_func_graphs.CondBranchFuncGraph):
    inner = inner.outer_graph
  return inner is graph
