# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Many tensors as one argument or one result of a function.

A cell's weights, what its forward pass keeps and its sums of gradients are
dozens of tensors, which go from call to call together. TensorFlow takes time
for each input of each op, several times over, before the first step runs. So
they go as one tensor of dtype variant, which refers to them without a copy:

```
  w0 --.                                        .--> w0 ...
  w1 --+-- OptionalFromValue --> call of f( OptionalGetValue )
  w2 --'                                        '--> w2 ...
```
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import (
  attr_value_pb2,
  function_pb2,
  node_def_pb2,
  op_def_pb2,
)

# What is an argument or a result: a tensor, or several packed into one.
Item: TypeAlias = 'tf.Tensor | list[tf.Tensor]'


def items(tensors: Sequence[tf.Tensor], *, packs: bool = True) -> list[Item]:
  """How tensors are handed over: those that can be packed together, first.

  With `packs` unset none is packed. XLA knows no variants.
  """
  together = [t for t in tensors if packs and _can_be_packed(t)]
  if len(together) < 2:
    return list(tensors)
  return [together, *(t for t in tensors if not _can_be_packed(t))]


def _can_be_packed(tensor: tf.Tensor) -> bool:
  # On a GPU ints may be in the host's memory, and strings can only be there.
  dtype = tensor.dtype.base_dtype
  return bool(dtype.is_floating or dtype.is_complex)


def pack(tensors: Sequence[tf.Tensor], like: Sequence[Item]) -> list[tf.Tensor]:
  """Packs tensors as `items` said for those that they stand for."""
  if not any(isinstance(item, list) for item in like):
    return list(tensors)
  packed = [t for t in tensors if _can_be_packed(t)]
  rest = [t for t in tensors if not _can_be_packed(t)]
  return [tf.raw_ops.OptionalFromValue(components=packed), *rest]


def unpack(
  values: Sequence[tf.Tensor],
  like: Sequence[Item],
  tensors: Sequence[tf.Tensor],
) -> list[tf.Tensor]:
  """The tensors that `pack` packed; `items` was given `tensors`."""
  if not any(isinstance(item, list) for item in like):
    return list(values)
  dtypes = [t.dtype.base_dtype for t in tensors if _can_be_packed(t)]
  packed = iter(components(values[0], dtypes))
  rest = iter(values[1:])
  return [next(packed if _can_be_packed(t) else rest) for t in tensors]


def components(
  packed: tf.Tensor, dtypes: Sequence[tf.DType]
) -> list[tf.Tensor]:
  """The tensors, of some dtypes, that are packed in one."""
  shapes = [tf.TensorShape(None)] * len(dtypes)
  return list(
    tf.raw_ops.OptionalGetValue(
      optional=packed, output_types=dtypes, output_shapes=shapes
    )
  )


def packed_dtypes(
  tensor: tf.Tensor, definitions: Mapping[str, function_pb2.FunctionDef]
) -> list[tf.DType]:
  """What is packed in a variant of a graph; nothing if that is not known.

  The functions that the graph may call are given by name.
  """
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
  for node in function.node_def:
    if node.op == 'OptionalFromValue' and node.name == source:
      return [tf.as_dtype(t) for t in node.attr['Toutput_types'].list.type]
  return []


def flat(given: Sequence[Item]) -> list[tf.Tensor]:
  """The tensors of some items, one by one."""
  return [t for item in given for t in _tensors(item)]


def _tensors(item: Item) -> list[tf.Tensor]:
  return item if isinstance(item, list) else [item]


def dtype(item: Item) -> tf.DType:
  """The dtype of an argument or a result."""
  return tf.variant if isinstance(item, list) else item.dtype.base_dtype


def shape(item: Item) -> tf.TensorShape:
  """Its shape."""
  return tf.TensorShape([]) if isinstance(item, list) else item.shape


def rewrite(
  definition: function_pb2.FunctionDef,
  inputs: Sequence[Item],
  outputs: Sequence[Item],
) -> None:
  """Changes a function of `flat(inputs)` into one of `inputs`; outputs too."""
  _pack_arguments(definition, inputs)
  _pack_results(definition, outputs)


def _pack_arguments(
  definition: function_pb2.FunctionDef, inputs: Sequence[Item]
) -> None:
  args = list(definition.signature.input_arg)
  numbers = iter(range(len(args)))
  kept: list[int | None] = []
  new_args, unpacked, renamed = [], [], {}
  for i, item in enumerate(inputs):
    if not isinstance(item, list):
      number = next(numbers)
      kept.append(number)
      new_args.append(args[number])
      continue
    kept.append(None)
    name, node = f'packed_{i}', f'unpack_{i}'
    new_args.append(op_def_pb2.OpDef.ArgDef(name=name, type=_VARIANT))
    for j, _ in enumerate(item):
      renamed[args[next(numbers)].name] = f'{node}:components:{j}'
    unpacked.append(_get_value(node, name, item))
  _set_arguments(definition, new_args, kept)
  _rename(definition, renamed)
  definition.node_def.extend(unpacked)


def _get_value(
  name: str, packed: str, tensors: Sequence[tf.Tensor]
) -> node_def_pb2.NodeDef:
  node = node_def_pb2.NodeDef(name=name, op='OptionalGetValue', input=[packed])
  _set_types(node, 'output_types', tensors)
  shapes = node.attr['output_shapes'].list.shape
  for _ in tensors:
    # One that is not used may stand for a tensor of another shape.
    shapes.add(unknown_rank=True)
  return node


def _set_arguments(
  definition: function_pb2.FunctionDef,
  args: Sequence[op_def_pb2.OpDef.ArgDef],
  kept: Sequence[int | None],
) -> None:
  """Gives a function other arguments; `kept` says where each was before."""
  del definition.signature.input_arg[:]
  definition.signature.input_arg.extend(args)
  for of_args in (definition.arg_attr, definition.resource_arg_unique_id):
    before: dict[int, Any] = dict(of_args.items())
    of_args.clear()
    for i, old in enumerate(kept):
      if old is None or old not in before:
        continue
      if isinstance(before[old], int):
        of_args[i] = before[old]
      else:
        of_args[i].CopyFrom(before[old])


def _rename(
  definition: function_pb2.FunctionDef, renamed: dict[str, str]
) -> None:
  """Has what read an argument read something else."""
  for node in definition.node_def:
    for i, name in enumerate(node.input):
      if name in renamed:
        node.input[i] = renamed[name]
      elif name[0] == '^' and name[1:] in renamed:
        node.input[i] = '^' + renamed[name[1:]].partition(':')[0]
  for key, name in list(definition.ret.items()):
    definition.ret[key] = renamed.get(name, name)


def _pack_results(
  definition: function_pb2.FunctionDef, outputs: Sequence[Item]
) -> None:
  results = iter(list(definition.signature.output_arg))
  new_results = []
  for i, item in enumerate(outputs):
    if not isinstance(item, list):
      new_results.append(next(results))
      continue
    name, node = f'result_{i}', f'pack_{i}'
    new_results.append(op_def_pb2.OpDef.ArgDef(name=name, type=_VARIANT))
    pack_node = definition.node_def.add(name=node, op='OptionalFromValue')
    for _ in item:
      pack_node.input.append(definition.ret.pop(next(results).name))
    _set_types(pack_node, 'Toutput_types', item)
    definition.ret[name] = f'{node}:optional:0'
  del definition.signature.output_arg[:]
  definition.signature.output_arg.extend(new_results)


def _set_types(
  node: node_def_pb2.NodeDef, attribute: str, tensors: Sequence[tf.Tensor]
) -> None:
  node.attr[attribute].CopyFrom(types(dtype(t) for t in tensors))


def types(dtypes: Iterator[tf.DType]) -> attr_value_pb2.AttrValue:
  """An attribute's value: a list of dtypes."""
  value = attr_value_pb2.AttrValue
  return value(list=value.ListValue(type=[d.as_datatype_enum for d in dtypes]))


_VARIANT = tf.variant.as_datatype_enum
