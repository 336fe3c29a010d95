# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Parts of graphs as functions in TensorFlow's library.

A function runs as it was traced, but for what `repairs` changes: TensorFlow's
graph optimiser is told to pass over it (docs/engine.md says why).

TensorFlow takes time for each input of each op before the first step. So a
cell's weights, what its forward pass keeps and its sums of gradients go as one
tensor of dtype variant, which refers to them without a copy:

```
  w0 --.                                        .--> w0 ...
  w1 --+-- OptionalFromValue --> call of f( OptionalGetValue )
  w2 --'                                        '--> w2 ...
```
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import attr_value_pb2, function_pb2
from tensorflow.python.client import pywrap_tf_session as tf_session
from tensorflow.python.eager import context, execute, record
from tensorflow.python.eager.polymorphic_function import atomic_function
from tensorflow.python.framework import auto_control_deps_utils, c_api_util, ops
from tensorflow.python.framework import func_graph as func_graph_lib

from lingvo_gpipe.engine import graph_walks, repairs
from lingvo_gpipe.engine.tensors import compiles_graph

FuncGraph: TypeAlias = func_graph_lib.FuncGraph

# A graph's optimiser passes over the functions of tf.data in its library, which
# tf.data optimises: here nobody does. That is all this attribute does.
_ATTRIBUTES = ('_noinline', '_tf_data_function')


_config = tf.ConfigProto()
_config.graph_options.rewrite_options.disable_meta_optimizer = True
_CONFIG = _config.SerializeToString(deterministic=True)
_NO_GRADIENT = 'LingvoGPipeNoGradient'
# Whether XLA's auto-clustering may compile a node.
_XLA = '_XlaCompile'


@tf.RegisterGradient(_NO_GRADIENT)
def _refuse_gradient(op: tf.Operation, *d_results: Any) -> None:
  del d_results
  _refuse(op.name)


def _refuse(name: str) -> None:
  raise ValueError(
    f'A gradient is to go through {name!r}, a call of a pipeline, which has '
    'none. Nor have second-order gradients, activations from a FetchLayer, and '
    'results in evaluation. If you need no gradient here, use '
    'tf.stop_gradient. Or make a fetched activation an output of the last '
    'cell, or build the model in `with '
    'lingvo_gpipe.pipeline.plain_run.without_pipeline():`.'
  )


# What is an argument or a result: a tensor, or several packed into one.
Item: TypeAlias = 'tf.Tensor | list[tf.Tensor]'


class GraphFunction:
  """A function in TensorFlow's library; each call, in any mode, is one op."""

  def __init__(
    self,
    name: str,
    graph: FuncGraph,
    inputs: Sequence[Item] | None = None,
    outputs: Sequence[Item] | None = None,
    *,
    effects: Sequence[tf.Operation] = (),
    without: Iterable[tf.Operation] = (),
  ):
    """Snapshots a part of `graph`: what is added to it later does not belong.

    A list of tensors is one argument, or one result, packed. Besides what the
    outputs need `effects` run; `without` do not, and no other waits for them.
    """
    inputs = list(graph.inputs if inputs is None else inputs)
    outputs = list(graph.outputs if outputs is None else outputs)
    self.name = name
    with graph.as_default(), contextlib.ExitStack() as undo:
      results = pack(outputs)
      args = [_argument(item, results, undo) for item in inputs]
      stop = {*without, *(t.op for t in (*flat(inputs), *args))}
      operations = graph_walks.needed([*results, *effects], stop)
      for op in operations:
        _wait_for_none_of(stop, op, undo)
      self._function = _define(
        f'{name}_{ops.uid()}', graph, operations, args, results
      )
    self._shapes = [t.shape for t in results]
    is_stateful = any(op._is_stateful for op in operations)
    self._op_type = f'{"Stateful" * is_stateful}PartitionedCall'
    self._attributes = _call_attributes(self._function.name, args, results)
    self._read_only = _read_only_resources(args)

  def __call__(
    self, args: Sequence[tf.Tensor], num_shaped: int | None = None
  ) -> list[tf.Tensor]:
    """Calls it. Shapes take time: only the first `num_shaped` get theirs."""
    with record.stop_recording():
      if tf.executing_eagerly():
        results = self._call_eagerly(args)
      else:
        results = self._call_in_graph(tf.get_default_graph(), list(args))
    name = self.name
    record.record_operation(
      _NO_GRADIENT, results, list(args), lambda *_: _refuse(name)
    )
    if not tf.executing_eagerly():
      shaped = zip(results[:num_shaped], self._shapes, strict=False)
      for result, shape in shaped:
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
      self._op_type, args, name=self.name, attrs=self._attributes
    )
    if self._read_only:
      ops.set_int_list_attr(
        op,
        auto_control_deps_utils.READ_ONLY_RESOURCE_INPUTS_ATTR,
        self._read_only,
      )
    return list(op.outputs)


def _call_attributes(
  name: bytes, args: Sequence[tf.Tensor], results: Sequence[tf.Tensor]
) -> dict[str, attr_value_pb2.AttrValue]:
  value = attr_value_pb2.AttrValue

  def dtypes(tensors: Sequence[tf.Tensor]) -> attr_value_pb2.AttrValue:
    enums = [t.dtype.base_dtype.as_datatype_enum for t in tensors]
    return value(list=value.ListValue(type=enums))

  attributes = {
    'Tin': dtypes(args),
    'Tout': dtypes(results),
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


def _argument(
  item: Item, results: list[tf.Tensor], undo: contextlib.ExitStack
) -> tf.Tensor:
  """The argument for an item.

  Components of a packed one replace its tensors among the results and, till
  `undo`, in what reads them.
  """
  if not isinstance(item, list):
    return item
  packed = tf.placeholder(tf.variant, [], 'packed')
  parts = components(packed, [t.dtype.base_dtype for t in item])
  for tensor, part in zip(item, parts, strict=True):
    replace(tensor, part)
    undo.callback(replace, part, tensor)
    results[:] = [part if t is tensor else t for t in results]
  return packed


def replace(tensor: tf.Tensor, by: tf.Tensor) -> None:
  for consumer in tensor.consumers():
    for i, read in enumerate(consumer.inputs):
      if read is tensor:
        consumer._update_input(i, by)


def _wait_for_none_of(
  others: set[tf.Operation], op: tf.Operation, undo: contextlib.ExitStack
) -> None:
  before = op.control_inputs
  if others.isdisjoint(before):
    return

  def wait_for(needs: Iterable[tf.Operation]) -> None:
    op._remove_all_control_inputs()
    op._add_control_inputs(needs)

  wait_for([c for c in before if c not in others])
  undo.callback(wait_for, before)


def _define(
  name: str,
  graph: FuncGraph,
  operations: Sequence[tf.Operation],
  args: Sequence[tf.Tensor],
  results: Sequence[tf.Tensor],
) -> atomic_function.AtomicFunction:
  with graph._c_graph.get() as c_graph:
    function = tf_session.TF_GraphToFunction_wrapper(
      c_graph,
      name,
      False,
      [op._c_op for op in operations],
      [t._as_tf_output() for t in args],
      [t._as_tf_output() for t in results],
      *([], [], [], None, ''),
    )
  with c_api_util.tf_buffer() as buffer:
    tf_session.TF_FunctionToFunctionDef(function, buffer)
    serialized = tf_session.TF_GetBuffer(buffer)
  tf_session.TF_DeleteFunction(function)
  definition = function_pb2.FunctionDef.FromString(serialized)
  for attribute in _ATTRIBUTES:
    definition.attr[attribute].b = True
  if not compiles_graph():
    # Else XLA's auto-clustering, where it is on, would take each function apart
    # in its own way, and several calls together for one.
    for node in definition.node_def:
      node.attr[_XLA].b = False
  called = repairs.repair(definition, graph._functions.values())
  library = context.context()
  library.add_function_def(definition)
  return atomic_function.AtomicFunction(name.encode(), library, None, called)


def _read_only_resources(args: Sequence[tf.Tensor]) -> list[int]:
  reads = auto_control_deps_utils.RESOURCE_READ_OPS
  return [
    i
    for i, t in enumerate(args)
    if t.dtype == tf.resource and all(c.type in reads for c in t.consumers())
  ]


def items(tensors: Sequence[tf.Tensor], *, packs: bool = True) -> list[Item]:
  """How tensors are handed over: those that can be packed together, first."""
  together = [t for t in tensors if packs and _can_be_packed(t)]
  if len(together) < 2:
    return list(tensors)
  return [together, *(t for t in tensors if not _can_be_packed(t))]


def _can_be_packed(tensor: tf.Tensor) -> bool:
  # On a GPU ints may be in the host's memory, and strings can only be there.
  dtype = tensor.dtype.base_dtype
  return bool(dtype.is_floating or dtype.is_complex)


def flat(given: Sequence[Item]) -> list[tf.Tensor]:
  return [
    t for item in given for t in (item if isinstance(item, list) else [item])
  ]


def pack(given: Sequence[Item]) -> list[tf.Tensor]:
  return [
    tf.raw_ops.OptionalFromValue(components=item)
    if isinstance(item, list)
    else item
    for item in given
  ]


def unpack(
  values: Sequence[tf.Tensor], tensors: Sequence[tf.Tensor]
) -> list[tf.Tensor]:
  """What is packed in `values`, in the order of the tensors that it is like."""
  if len(values) == len(tensors):
    return list(values)
  dtypes = [t.dtype.base_dtype for t in tensors if _can_be_packed(t)]
  packed = iter(components(values[0], dtypes))
  rest = iter(values[1:])
  return [next(packed if _can_be_packed(t) else rest) for t in tensors]


def components(
  packed: tf.Tensor, dtypes: Sequence[tf.DType]
) -> list[tf.Tensor]:
  """The tensors, of some dtypes, that are packed in one."""
  # One that is not used may stand for a tensor of another shape.
  shapes = [tf.TensorShape(None)] * len(dtypes)
  return list(
    tf.raw_ops.OptionalGetValue(
      optional=packed, output_types=dtypes, output_shapes=shapes
    )
  )


def packed_dtypes(
  tensor: tf.Tensor, definitions: Mapping[str, function_pb2.FunctionDef]
) -> list[tf.DType]:
  """What is packed in a variant of a graph; nothing if that is not known."""
  op = tensor.op
  if op.type == 'OptionalFromValue':
    return list(op.get_attr('Toutput_types'))
  if not op.type.endswith('PartitionedCall'):
    return []
  function = definitions.get(op.get_attr('f').name)
  if function is None:
    return []
  result = function.signature.output_arg[op.outputs.index(tensor)].name
  source = function.ret[result].split(':')[0]
  return [
    tf.as_dtype(enum)
    for node in function.node_def
    if node.name == source
    for enum in node.attr['Toutput_types'].list.type
  ]
