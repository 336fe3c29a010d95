# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Functions in TensorFlow's library, and the gradient of one as another.

`tf.function` hides the split that a pipeline needs: which values a forward
pass must keep for its backward pass, and the backward pass as a function of
its own that takes them. TensorFlow has that split inside, for its own
gradient of a `tf.function`; this module is the only place of ours that reaches
for it.

```
  trace          T:  inputs --------------------> outputs
  differentiate  G:  d_outputs, tensors of T ---> d_inputs
  GraphFunction  makes a graph callable: one call is one op of the caller
```

No function is ever inlined into its caller: TensorFlow would merge a
recomputed forward pass with the first one, and so keep what recomputation is
there to drop.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow.compat.v1 as tf
from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function import atomic_function
from tensorflow.python.framework import func_graph as func_graph_lib
from tensorflow.python.framework import ops
from tensorflow.python.ops import gradients_util

FuncGraph = func_graph_lib.FuncGraph

_NOT_INLINED = {'_noinline': True}


class GraphFunction:
  """A function in TensorFlow's library; each call of it is a single op.

  It takes and returns flat lists of tensors, and works in graph mode, inside
  `tf.function` and eagerly.
  """

  def __init__(self, graph: FuncGraph):
    """Snapshots `graph`: what is added to it later does not belong.

    Args:
      graph: A graph whose `inputs` and `outputs` are set, captures included.
    """
    self.name = graph.name
    self.num_inputs = len(graph.inputs)
    self._function = atomic_function.from_func_graph(
      f'{graph.name}_{ops.uid()}', graph, _NOT_INLINED
    )

  def __call__(self, args: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    assert len(args) == self.num_inputs, (
      f'{self.name} takes {self.num_inputs} tensors, got {len(args)}.'
    )
    with _optimised_once():
      return list(self._function.call_flat(*args))


@contextlib.contextmanager
def _optimised_once() -> Iterator[None]:
  """Calls made inside leave graph optimisation to the caller's graph.

  TensorFlow optimises the functions in a graph's library together with the
  graph, and then each function once more when it is first run.
  """
  if tf.executing_eagerly_outside_functions():
    # The library of a tf.function is not optimised with it.
    yield
    return
  thread = context.context()
  options = thread.function_call_options
  config = tf.ConfigProto()
  config.ParseFromString(options.config_proto_serialized or b'')
  config.graph_options.rewrite_options.disable_meta_optimizer = True
  thread.function_call_options = context.FunctionCallOptions(
    executor_type=options.executor_type, config_proto=config
  )
  try:
    yield
  finally:
    thread.function_call_options = options


def trace(
  name: str,
  fn: Callable[..., Sequence[tf.Tensor]],
  specs: Sequence[tf.TensorSpec],
  device: str = '',
) -> FuncGraph:
  """Traces `fn` once into a graph of its own.

  What `fn` uses of the surrounding graph becomes an input behind those of
  `specs`: see `FuncGraph.external_captures`. Summaries and batch-norm updates
  that it adds to collections stay in the new graph's collections.

  Args:
    name: A name for the function.
    fn: Takes one tensor for each of `specs`, returns a flat list of tensors.
    specs: Shapes and dtypes of the inputs; dimensions may be unknown.
    device: Where the ops in it are to run; '' for where it is called.
  """
  collections = {}
  if not tf.executing_eagerly():
    outer = tf.get_default_graph()
    collections = {
      key: outer.get_collection_ref(key)
      for key in func_graph_lib.ALLOWLIST_COLLECTIONS
    }

  def traced(*args: tf.Tensor) -> list[tf.Tensor]:
    if device:
      # Gradients put some ops next to a function's input.
      for arg in args:
        arg.op._set_device(tf.DeviceSpec.from_string(device).to_string())
    with tf.device(device or None):
      return list(fn(*args))

  with _no_device():
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
  device: str = '',
) -> GraphFunction:
  """Makes a function of `fn`, which uses nothing but its arguments."""
  graph = trace(name, fn, specs, device)
  assert not graph.external_captures, (
    f'{name} captures {graph.external_captures}'
  )
  return GraphFunction(graph)


@dataclasses.dataclass(frozen=True)
class Slices:
  """Where the parts of a sparse gradient stand among a function's outputs."""

  values: int
  indices: int
  dense_shape: int | None


@dataclasses.dataclass(frozen=True)
class Gradient:
  """The gradient of a traced graph as a graph of its own.

  Attributes:
    graph: Its inputs are one gradient for each of ys, then what it reads of
      elsewhere, `captures`.
    captures: The tensors it reads, of the traced graph or outside of it; those
      that its outputs depend on.
    positions: For each of xs: None if it has no gradient, the position of its
      gradient among the graph's outputs, or `Slices`.
  """

  graph: FuncGraph
  captures: tuple[tf.Tensor, ...]
  positions: tuple[int | Slices | None, ...]


def differentiate(
  forward: FuncGraph,
  ys: Sequence[tf.Tensor],
  xs: Sequence[tf.Tensor],
  name: str,
  dense: Sequence[bool],
  device: str = '',
  weight: int | None = None,
) -> Gradient:
  """Builds the gradient of `forward`.

  Call it before `forward` becomes a `GraphFunction`: TensorFlow adds outputs
  to a loop when it builds the loop's gradient.

  Args:
    forward: A traced graph.
    ys: Tensors of it; each is given a gradient.
    xs: Tensors of it to differentiate by.
    name: A name for the new graph.
    dense: For each of xs, whether a sparse gradient is to be made dense.
    device: As in `trace`.
    weight: Which of ys is a scalar whose gradient, where it is 0, makes all
      gradients 0, though some would be NaN.
  """
  with _no_device():
    graph = FuncGraph(name, collections={})
    with graph.as_default(), tf.device(device or None):
      d_ys = [tf.placeholder(y.dtype, y.shape) for y in ys]
      gradients = gradients_util._GradientsHelper(
        list(ys), list(xs), grad_ys=d_ys, src_graph=forward
      )
      gradients = [
        tf.convert_to_tensor(g)
        if make_dense and isinstance(g, tf.IndexedSlices)
        else g
        for g, make_dense in zip(gradients, dense, strict=True)
      ]
      if weight is not None:
        gradients = _zeros_without(d_ys[weight], gradients)
      outputs: list[tf.Tensor] = []
      positions = [_append_output(gradient, outputs) for gradient in gradients]
  # TensorFlow also builds gradients that nobody asked for, of a product's other
  # factor, say; what only these read need not be kept.
  needed = _needed_by(outputs)
  captures = [
    (outer, inner)
    for outer, inner in zip(
      graph.external_captures, graph.internal_captures, strict=True
    )
    if inner.op in needed
  ]
  graph.inputs = d_ys + [inner for _, inner in captures]
  graph.outputs = outputs
  return Gradient(
    graph, tuple(outer for outer, _ in captures), tuple(positions)
  )


def _needed_by(tensors: Sequence[tf.Tensor]) -> set[tf.Operation]:
  """The ops of a graph that run if tensors of it are computed."""
  pending = [tensor.op for tensor in tensors]
  needed = set(pending)
  while pending:
    op = pending.pop()
    for before in (*(t.op for t in op.inputs), *op.control_inputs):
      if before not in needed:
        needed.add(before)
        pending.append(before)
  return needed


def _zeros_without(
  weight: tf.Tensor, gradients: Sequence[tf.Tensor | tf.IndexedSlices | None]
) -> list[tf.Tensor | tf.IndexedSlices | None]:
  """The gradients, or zeros in their place if `weight` is 0.

  A branch: a product would leave NaN, and a select would read and write all
  gradients once more.
  """
  tensors = [
    g.values if isinstance(g, tf.IndexedSlices) else g
    for g in gradients
    if g is not None
  ]
  if not tensors:
    return list(gradients)
  chosen = iter(
    tf.cond(
      tf.not_equal(weight, 0),
      lambda: [tf.identity(t) for t in tensors],
      lambda: [tf.zeros_like(t) for t in tensors],
      strict=True,
    )
  )

  def choose(
    gradient: tf.Tensor | tf.IndexedSlices | None,
  ) -> tf.Tensor | tf.IndexedSlices | None:
    if gradient is None:
      return None
    if isinstance(gradient, tf.IndexedSlices):
      return tf.IndexedSlices(
        next(chosen), gradient.indices, gradient.dense_shape
      )
    return next(chosen)

  return [choose(gradient) for gradient in gradients]


def _append_output(
  gradient: tf.Tensor | tf.IndexedSlices | None, outputs: list[tf.Tensor]
) -> int | Slices | None:
  """Appends the tensors of `gradient`, and says where they are."""
  if gradient is None:
    return None
  start = len(outputs)
  if not isinstance(gradient, tf.IndexedSlices):
    outputs.append(tf.identity(gradient))
    return start
  outputs += [tf.identity(gradient.values), tf.identity(gradient.indices)]
  if gradient.dense_shape is None:
    return Slices(start, start + 1, None)
  outputs.append(tf.identity(gradient.dense_shape))
  return Slices(start, start + 1, start + 2)


def _no_device():
  """Hides devices and colocation around, which a new graph would inherit."""
  if tf.executing_eagerly():
    return tf.device(None)
  return tf.get_default_graph().colocate_with(None, ignore_existing=True)


def definitions(graph: tf.Graph) -> dict[str, Any]:
  """The FunctionDefs of all functions that `graph` may call, by name."""
  found: dict[str, Any] = {}
  pending: list[Any] = list(graph._functions.values())
  while pending:
    function = pending.pop()
    definition = getattr(function, 'cached_definition', None)
    if definition is None:
      definition = function.definition
    if definition.signature.name in found:
      continue
    found[definition.signature.name] = definition
    pending.extend(getattr(function, 'children', ()))
  return found
