# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parts of graphs as functions in TensorFlow's library.

`tf.function` hides the split that a pipeline needs: which values a forward
pass must keep for its backward pass, and the backward pass as a function of
its own that takes them. Here a graph is traced once, and any part of it can be
a function:

```
  trace          T: inputs ---> outputs
  GraphFunction  a part of a graph that can be called: one call is one op
```

A function runs as it was traced, but for what `repairs` changes.
TensorFlow's graph optimiser would rewrite each function in its own way: a
forward pass that keeps something otherwise than one that keeps nothing, two
layers in one function otherwise than in two. The last bits of results would
then depend on the cut. It would also inline calls, and merge a recomputed
forward pass with the first one. And it would look at each call again, which
makes the first step slow. So functions are marked for it to pass over.
"""

import contextlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import attr_value_pb2, function_pb2
from tensorflow.python.client import pywrap_tf_session as tf_session
from tensorflow.python.eager import context, execute, record
from tensorflow.python.eager.polymorphic_function import atomic_function
from tensorflow.python.framework import (
  auto_control_deps_utils,
  ops,
)
from tensorflow.python.framework import func_graph as func_graph_lib

from lingvo_gpipe.engine import packing, repairs
from lingvo_gpipe.engine.tensors import compiles_graph

FuncGraph: TypeAlias = func_graph_lib.FuncGraph

# A graph's optimiser passes over the functions of tf.data in its library, which
# tf.data optimises: here nobody does. That is all this attribute does.
_ATTRIBUTES = {
  '_noinline': attr_value_pb2.AttrValue(b=True),
  '_tf_data_function': attr_value_pb2.AttrValue(b=True),
}


def _without_optimiser() -> bytes:
  """The configuration of a call whose function is not optimised."""
  config = tf.ConfigProto()
  config.graph_options.rewrite_options.disable_meta_optimizer = True
  return config.SerializeToString(deterministic=True)


_CONFIG = _without_optimiser()

_NO_GRADIENT = 'LingvoGPipeNoGradient'
# Whether XLA's auto-clustering may compile a node.
_XLA = '_XlaCompile'


@tf.RegisterGradient(_NO_GRADIENT)
def _refuse_gradient(op: tf.Operation, *d_results: Any) -> None:
  """Raises ValueError, in place of a gradient through a call that is lost.

  What the pipeline returns has gradients of its own, past the calls.
  """
  del d_results
  _refuse(op.name)


def _refuse(name: str) -> None:
  raise ValueError(
    f'A gradient is to go through {name!r}, a call of a pipeline, which has '
    'none. In training, outputs, losses and metrics have gradients. Gradients '
    'themselves (second-order gradients), activations from a FetchLayer, and '
    'results in evaluation have none. If you need no gradient here, use '
    'tf.stop_gradient. Make a fetched activation an output of the last cell to '
    'get its gradient. Or do without the pipeline: build the model in `with '
    'lingvo_gpipe.pipeline.plain_run.without_pipeline():`.'
  )


class GraphFunction:
  """A function in TensorFlow's library; each call of it is a single op.

  It takes and returns flat lists of tensors, some of them packed (see
  `packing`), and works in graph mode, inside `tf.function` and eagerly.
  """

  def __init__(
    self,
    name: str,
    graph: FuncGraph,
    inputs: Sequence[packing.Item] | None = None,
    outputs: Sequence[packing.Item] | None = None,
    operations: Sequence[tf.Operation] | None = None,
  ):
    """Snapshots a part of `graph`: what is added to it later does not belong.

    Args:
      name: A name for the function.
      graph: The graph.
      inputs: Tensors of it that become arguments; by default all its inputs. A
        list of tensors is one argument, packed.
      outputs: Tensors of it that are returned; by default all its outputs. A
        list is one result.
      operations: What runs; by default what the outputs need.
    """
    inputs = list(graph.inputs if inputs is None else inputs)
    outputs = list(graph.outputs if outputs is None else outputs)
    self.name = name
    self.num_inputs = len(inputs)
    self._shapes = [packing.shape(item) for item in outputs]
    if operations is None:
      args = packing.flat(inputs)
      operations = needed(packing.flat(outputs), {t.op for t in args})
    self._is_stateful = any(op._is_stateful for op in operations)
    self._function = _define(
      f'{name}_{ops.uid()}', graph, operations, inputs, outputs
    )
    self._attributes = _call_attributes(self._function.name, inputs, outputs)
    self._read_only = _read_only_resources(inputs)

  def __call__(
    self, args: Sequence[tf.Tensor], num_shaped: int | None = None
  ) -> list[tf.Tensor]:
    """Calls the function where ops are placed now.

    Of the results only the first `num_shaped` are told their shapes, if it is
    given. With hundreds of calls that takes time.
    """
    assert len(args) == self.num_inputs, (
      f'{self.name} takes {self.num_inputs} tensors, got {len(args)}.'
    )
    with record.stop_recording():
      if tf.executing_eagerly():
        results = self._call_eagerly(args)
      else:
        results = self._call_in_graph(tf.get_default_graph(), list(args))
    name = self.name
    record.record_operation(
      _NO_GRADIENT, results, list(args), lambda *_: _refuse(name)
    )
    if tf.executing_eagerly():
      return results
    for result, shape in zip(results[:num_shaped], self._shapes, strict=False):
      result.set_shape(shape)
    return results

  def _call_eagerly(self, args: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    return list(
      execute.execute(
        self._function.name.decode(),
        num_outputs=len(self._shapes),
        inputs=list(args),
        attrs=('executor_type', '', 'config_proto', _CONFIG),
        ctx=context.context(),
      )
    )

  def _call_in_graph(
    self, graph: tf.Graph, args: list[tf.Tensor]
  ) -> list[tf.Tensor]:
    graph._add_function_recursive(self._function)
    op = graph._create_op_internal(
      'StatefulPartitionedCall' if self._is_stateful else 'PartitionedCall',
      args,
      name=self.name,
      attrs=self._attributes,
    )
    if self._read_only:
      ops.set_int_list_attr(
        op,
        auto_control_deps_utils.READ_ONLY_RESOURCE_INPUTS_ATTR,
        self._read_only,
      )
    return list(op.outputs)


def _call_attributes(
  name: bytes, inputs: Sequence[packing.Item], outputs: Sequence[packing.Item]
) -> dict[str, attr_value_pb2.AttrValue]:
  """The attributes of a call."""
  value = attr_value_pb2.AttrValue
  attributes = {
    'Tin': packing.types(map(packing.dtype, inputs)),
    'Tout': packing.types(map(packing.dtype, outputs)),
    'f': value(func=attr_value_pb2.NameAttrList(name=name)),
    'config_proto': value(s=_CONFIG),
    'executor_type': value(s=b''),
    '_gradient_op_type': value(s=_NO_GRADIENT.encode()),
    # It would go through the function's body for each call.
    '_disable_call_shape_inference': value(b=True),
  }
  if not compiles_graph():
    attributes[_XLA] = value(b=False)
    # The optimiser builds the function of each call that it might inline, and
    # only then finds that it must not. It does not begin with a call that XLA
    # compiles; XLA reads this attribute as a bool, and only then heeds it.
    attributes['_XlaMustCompile'] = value(s=b'no')
  return attributes


def needed(
  ops_or_tensors: Iterable[Any], without: Container[tf.Operation] = ()
) -> list[tf.Operation]:
  """The ops that must run for some others, in the order of the graph.

  Those of `without` need not run, nor does what only they need.
  """
  found: set[tf.Operation] = set()
  pending = [getattr(x, 'op', x) for x in ops_or_tensors]
  while pending:
    op = pending.pop()
    if op in found or op in without:
      continue
    found.add(op)
    pending += [t.op for t in op.inputs]
    pending += op.control_inputs
  return sorted(found, key=lambda op: op._id)


@contextlib.contextmanager
def without_control_inputs(
  graph: FuncGraph, left_out: Container[tf.Operation]
) -> Iterator[None]:
  """Inside, no op of a graph waits for those that are left out."""
  before = []
  for op in graph.get_operations():
    if any(c in left_out for c in op.control_inputs):
      before.append((op, list(op.control_inputs)))
      op._remove_all_control_inputs()
      op._add_control_inputs([c for c in before[-1][1] if c not in left_out])
  try:
    yield
  finally:
    for op, inputs in before:
      op._remove_all_control_inputs()
      op._add_control_inputs(inputs)


def _define(
  name: str,
  graph: FuncGraph,
  operations: Sequence[tf.Operation],
  inputs: Sequence[packing.Item],
  outputs: Sequence[packing.Item],
) -> atomic_function.AtomicFunction:
  """Adds a function to TensorFlow's library; it goes when the result does."""
  buffer = tf_session.TF_NewBuffer()
  with graph._c_graph.get() as c_graph:
    function = tf_session.TF_GraphToFunction_wrapper(
      c_graph,
      name,
      False,
      [op._c_op for op in operations],
      [t._as_tf_output() for t in packing.flat(inputs)],
      [t._as_tf_output() for t in packing.flat(outputs)],
      [],
      [],
      [],
      None,
      '',
    )
  tf_session.TF_FunctionToFunctionDef(function, buffer)
  definition = function_pb2.FunctionDef.FromString(
    tf_session.TF_GetBuffer(buffer)
  )
  tf_session.TF_DeleteBuffer(buffer)
  tf_session.TF_DeleteFunction(function)
  for key, attribute in _ATTRIBUTES.items():
    definition.attr[key].CopyFrom(attribute)
  packing.rewrite(definition, inputs, outputs)
  if not compiles_graph():
    # Else XLA's auto-clustering, where it is on, would take each function apart
    # in its own way, and several calls together for one.
    for node in definition.node_def:
      node.attr[_XLA].b = False
  called = repairs.repair(definition, graph._functions.values())
  library = context.context()
  library.add_function_def(definition)
  return atomic_function.AtomicFunction(name.encode(), library, None, called)


def _read_only_resources(inputs: Sequence[packing.Item]) -> list[int]:
  """Of the inputs that are resources, those that the graph only reads."""
  reads = auto_control_deps_utils.RESOURCE_READ_OPS
  return [
    i
    for i, t in enumerate(inputs)
    if not isinstance(t, list)
    and t.dtype == tf.resource
    and all(c.type in reads for c in t.consumers())
  ]


def trace(
  name: str,
  fn: Callable[..., Sequence[tf.Tensor]],
  specs: Sequence[tf.TensorSpec],
  device: str = '',
) -> FuncGraph:
  """Traces `fn` once into a graph of its own.

  What `fn` uses of the surrounding graph becomes an input behind those of
  `specs`: see `FuncGraph.external_captures`. Summaries and batch-norm updates
  that it adds to collections stay in the new graph's collections. Its ops run
  on `device`, or where the function is called if that is ''.
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
    overridden = tf.get_default_graph().gradient_override_map(repairs.GRADIENTS)
    with tf.device(device or None), overridden:
      return list(fn(*args))

  with no_device():
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
  return GraphFunction(name, graph)


def no_device() -> contextlib.AbstractContextManager[Any]:
  """Hides devices and colocation around, which a new graph would inherit."""
  if tf.executing_eagerly():
    return tf.device(None)
  return tf.get_default_graph().colocate_with(None, ignore_existing=True)
