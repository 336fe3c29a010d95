# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Graphs that functions are made of: T, traced, and its gradient G.

```
  T: inputs -----------------------------> outputs
                |              |
             arguments     residuals         what G reads of T
                |              |
  G: d_outputs ----------------------------> d_inputs
```
"""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import tensorflow.compat.v1 as tf
from tensorflow.python.framework import func_graph as func_graph_lib
from tensorflow.python.ops import gradients_util

from lingvo_gpipe.engine import graph_walks, repairs
from lingvo_gpipe.engine.graph_function import FuncGraph, GraphFunction, replace
from lingvo_gpipe.engine.tensors import differentiable, on_device


def trace(
  name: str,
  fn: Callable[..., Sequence[tf.Tensor]],
  specs: Sequence[tf.TensorSpec],
  device: str = '',
) -> FuncGraph:
  """Traces `fn` into a graph, on `device`, or where it is called if that is ''.

  What `fn` uses of the surrounding graph becomes an input behind those of
  `specs`. What it adds to collections stays in those of the new graph.
  """
  collections = {}
  if not tf.executing_eagerly():
    get = tf.get_default_graph().get_collection_ref
    keys = func_graph_lib.ALLOWLIST_COLLECTIONS
    collections = {key: get(key) for key in keys}

  def traced(*args: tf.Tensor) -> list[tf.Tensor]:
    if device:
      # Gradients put some ops next to a function's input.
      for arg in args:
        arg.op._set_device(tf.DeviceSpec.from_string(device).to_string())
    overridden = tf.get_default_graph().gradient_override_map(repairs.GRADIENTS)
    with tf.device(device or None), overridden:
      return list(fn(*args))

  with on_device(''):
    return func_graph_lib.func_graph_from_py_func(
      name,
      traced,
      args=(),
      kwargs={},
      signature=tuple(specs),
      collections=collections,
    )


def as_function(
  name: str,
  fn: Callable[..., Sequence[tf.Tensor]],
  specs: Sequence[tf.TensorSpec],
) -> GraphFunction:
  """Makes a function of `fn`, which uses nothing but its arguments."""
  graph = trace(name, fn, specs)
  assert not graph.external_captures, graph.external_captures
  return GraphFunction(name, graph)


# TensorFlow calls the gradient of op `a` `gradients/a_grad/...`.
_SCOPE, _END = 'gradients', '_grad'
_INDICES = (tf.int32, tf.int64)

# Where a gradient is among the outputs of a graph: if it is sparse, where are
# its values and its indices; None if there is none.
Position: TypeAlias = int | tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class Gradient:
  """The gradient of a traced graph as a graph of its own.

  It reads gradients of ys through placeholders `d_ys`, and `captures`, each
  with its placeholder. `positions` say where the gradients of xs are.
  """

  graph: FuncGraph
  d_ys: list[tf.Tensor]
  captures: list[tuple[tf.Tensor, tf.Tensor]]
  positions: list[Position]


def differentiate(
  forward: FuncGraph,
  ys: Sequence[tf.Tensor],
  xs: Sequence[tf.Tensor | None],
  name: str,
  num_dense: int,
  device: str = '',
  weight: int | None = None,
) -> Gradient:
  """Builds the gradient of `forward`.

  Call it before `forward` becomes a `GraphFunction`: TensorFlow adds outputs
  to a loop when it builds the loop's gradient.

  Args:
    ys: Tensors of it; each is given a gradient.
    xs: Tensors of it to differentiate by; None where that is not wanted.
    num_dense: Of how many of xs sparse gradients are to be made dense.
    weight: Which of ys is a scalar whose gradient, where it is 0, makes all
      gradients 0, though some would be NaN.
  """
  outputs: list[tf.Tensor] = []
  positions: list[Position] = []

  def add(tensor: tf.Tensor) -> int:
    if weight is not None and tensor.dtype.base_dtype not in _INDICES:
      # One product, which makes 0 of NaN, and otherwise changes no bit.
      is_there = tf.cast(tf.not_equal(d_ys[weight], 0), tensor.dtype)
      tensor = tf.math.multiply_no_nan(tensor, is_there)
    outputs.append(tf.identity(tensor))
    return len(outputs) - 1

  with on_device(''):
    graph = FuncGraph(name, collections={})
    with graph.as_default(), tf.device(device or None):
      d_ys = [tf.placeholder(y.dtype, y.shape) for y in ys]
      known = [x for x in xs if x is not None and differentiable(x)]
      gradients = gradients_util._GradientsHelper(
        list(ys), known, grad_ys=d_ys, name=_SCOPE, src_graph=forward
      )
      by_id = dict(zip(map(id, known), gradients, strict=True))
      for i, x in enumerate(xs):
        gradient = by_id.get(id(x))
        if gradient is None:
          positions.append(None)
        elif i < num_dense or isinstance(gradient, tf.Tensor):
          positions.append(add(tf.convert_to_tensor(gradient)))
        else:
          positions.append((add(gradient.values), add(gradient.indices)))
      _sort_sums(graph, forward)
  graph.outputs = outputs
  return Gradient(graph, d_ys, _captures(graph), positions)


def _captures(graph: FuncGraph) -> list[tuple[tf.Tensor, tf.Tensor]]:
  """What a graph captures for its outputs, and not for gradients of others."""
  used = set(graph_walks.needed(graph.outputs))
  captures = zip(graph.external_captures, graph.internal_captures, strict=True)
  return [(outer, inner) for outer, inner in captures if inner.op in used]


def _sort_sums(graph: tf.Graph, forward: tf.Graph) -> None:
  """Puts the terms of sums in the order of the ops that they come from.

  TensorFlow adds the gradients of what several ops of a layer read in the order
  in which it gets to them. If the layer has several outputs, that depends on
  the cut. Sparse gradients are joined instead: their values, then their
  indices.
  """
  numbers = {op.name: op._id for op in forward.get_operations()}
  joined = []
  for op in graph.get_operations():
    if op.type == 'AddN' and len(op.inputs) > 2:
      _sort_terms([op], len(op.inputs), numbers)
    elif op.type == 'ConcatV2' and _origin(op.name, numbers) is None:
      joined.append(op)
  for values, indices in itertools.pairwise(joined):
    if (
      values.inputs[0].dtype.is_floating
      and indices.inputs[0].dtype.is_integer
      and len(values.inputs) == len(indices.inputs)
    ):
      _sort_terms([values, indices], len(values.inputs) - 1, numbers)


def _sort_terms(
  sums: Sequence[tf.Operation], count: int, numbers: Mapping[str, int]
) -> None:
  """Replaces ops that are sums over the same terms by sorted ones."""
  origins, *others = (
    [_origin(t.op.name, numbers) for t in op.inputs[:count]] for op in sums
  )
  if None in origins or any(other != origins for other in others):
    return
  order = sorted(range(count), key=lambda i: origins[i] or 0)
  if order == list(range(count)):
    return
  for op in sums:
    terms = [op.inputs[i] for i in order]
    # Of another op, as the terms may be of different lengths.
    with tf.device(op.device or None):
      is_joined = op.type == 'ConcatV2'
      total = tf.concat(terms, axis=0) if is_joined else tf.add_n(terms)
    replace(op.outputs[0], total)


def _origin(name: str, numbers: Mapping[str, int]) -> int | None:
  """The number of the op whose gradient an op of this name is part of."""
  parts = name.removeprefix(f'{_SCOPE}/').split(f'{_END}/')
  for count in range(1, len(parts)):
    number = numbers.get(f'{_END}/'.join(parts[:count]))
    if number is not None:
      return number
  return None
