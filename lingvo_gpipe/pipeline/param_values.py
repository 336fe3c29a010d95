# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks of Params, and shapes and dtypes as text in them."""

import ast
import inspect
import numbers
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, builder_layers, hyperparams, py_utils

from lingvo_gpipe.schedules import FIT, RECOMPUTE_POLICIES, check_name

# What a mini-batch is made of, and what names in shared_inputs begin with.
GIVEN = ('inputs', 'targets', 'side_inputs')


def of_schedule(params: Any) -> None:
  whole_number(params, 'num_micro_batches', 1)
  whole_number(params, 'micro_batch_size', 1, or_none=True)
  whole_number(params, 'batch_dim', 0)
  try:
    check_name(params.schedule)
  except ValueError as error:
    raise ValueError(
      f'{params.name}.schedule is {params.schedule!r}: {error}'
    ) from error
  policies = (*RECOMPUTE_POLICIES, FIT)
  _check(
    params,
    'recompute',
    params.recompute in policies or _is_names(params.recompute),
    f'one of {policies}, or a list with the names of the layers whose '
    'activations are kept',
  )


def _check(
  params: Any, name: str, is_fine: bool, must_be: str, what: str = ''
) -> None:
  if not is_fine:
    raise ValueError(
      f'{what or params.name}.{name} is {params.Get(name)!r}; it must be '
      f'{must_be}.'
    )


def _is_names(value: Any) -> bool:
  return isinstance(value, list | tuple) and all(
    isinstance(name, str) for name in value
  )


def whole_number(
  params: Any, name: str, least: int, *, or_none: bool = False, what: str = ''
) -> None:
  """Raises ValueError if a Param is no whole number: '4', 4.0 or True."""
  value = params.Get(name)
  is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
  is_fine = (value is None and or_none) or (is_whole and value >= least)
  must_be = f'a whole number of {least} or more{", or None" * or_none}'
  _check(params, name, is_fine, must_be, what)


def names(params: Any, name: str) -> None:
  """Raises ValueError if a Param is no list of names, but one name, say."""
  value = params.Get(name)
  example = f', as in [{value!r}]' if isinstance(value, str) else ''
  _check(params, name, _is_names(value), f'a list of names{example}')


def text(
  params: Any, name: str, *, or_none: bool = False, what: str = ''
) -> None:
  value = params.Get(name)
  is_fine = isinstance(value, str) or (value is None and or_none)
  _check(params, name, is_fine, 'text', what)


def specs(value: Any, what: str) -> Any:
  """Returns a nest of tensor specs, from itself or from text.

  Lingvo writes Params to text and reads them back, but reads no tensor specs:

  ```
    'float32[16,8,8,1]'                       one tensor
    'float32[16,32,64], int32[16,32], None'   several arguments
    'ids=int32[16,32], paddings=float32[16,32]'   a NestedMap
  ```

  Raises ValueError, which calls the Param `what`, if the text is not of this
  form, or a shape is not fully known.
  """
  nest = _parse(value, what) if isinstance(value, str) else value
  for spec in tf.nest.flatten(nest):
    if spec is None:
      continue
    if not isinstance(spec, tf.TensorSpec):
      raise ValueError(
        f'{what} is {value!r}; {spec!r} in it is not a tf.TensorSpec. Write '
        "text such as 'float32[16,8,8,1]', or tensor specs."
      )
    if not spec.shape.is_fully_defined():
      raise ValueError(
        f'{what} is {value!r}; every dimension must be known, '
        'that of the batch too: the number of examples in a micro-batch.'
      )
  return nest


def _parse(text: str, what: str) -> Any:
  try:
    call = ast.parse(f'f({text.replace("[]", "[()]")})', mode='eval').body
    assert isinstance(call, ast.Call)
    unnamed = tuple(map(_spec, call.args))
    named = {str(k.arg): _spec(k.value) for k in call.keywords}
    if len(named) < len(call.keywords) or (unnamed and named):
      raise ValueError(
        'either all of its tensors have names, which differ, or none has one'
      )
  except (AssertionError, SyntaxError, TypeError, ValueError) as error:
    raise ValueError(
      f'{what} is {text!r}, which cannot be read: {error}. Write it like '
      "'float32[16,8,8,1]', several tensors with commas between them, names "
      "like 'ids=int32[16,32]'."
    ) from error
  if named:
    return py_utils.NestedMap(named)
  return unnamed[0] if len(unnamed) == 1 else unnamed


def _spec(node: ast.expr) -> tf.TensorSpec | None:
  if isinstance(node, ast.Constant) and node.value is None:
    return None
  if not isinstance(node, ast.Subscript):
    raise ValueError(f'{ast.unparse(node)} has no shape')
  shape = ast.literal_eval(node.slice)
  shape = shape if isinstance(shape, tuple) else (shape,)
  return tf.TensorSpec(shape, tf.as_dtype(ast.unparse(node.value)))


def check_layers(value: Any, what: str, *, nested: bool = False) -> None:
  """Raises ValueError if a Param is no list of layers' Params, all through.

  Call it before Params are copied, because layers with variables cannot be. If
  `nested`, lists may be in it to any depth, or one layer in its place.
  """
  if isinstance(value, list | tuple):
    check = check_layers if nested else check_layer
    for i, layer in enumerate(value):
      check(layer, f'{what}[{i}]', nested=nested)
  elif nested:
    check_layer(value, what, nested=True)
  else:
    raise ValueError(
      f'{what} is {_kind(value)}; it must be a list of Params of layers.'
    )


def check_layer(value: Any, what: str, *, nested: bool = False) -> None:
  cls = value.cls if isinstance(value, hyperparams.InstantiableParams) else None
  if cls is None or not issubclass(cls, base_layer.BaseLayer):
    name = value if isinstance(value, type) else type(value)
    layer = issubclass(name, base_layer.BaseLayer)
    example = f'{name.__name__ if layer else "MyLayer"}.Params().Set(name=...)'
    raise ValueError(
      f'{what} is {_kind(value)}; it must be Params of a layer, as in '
      f'{example}.'
    )
  if not isinstance(value.name, str | None):
    raise ValueError(f'{what}.name is {value.name!r}; it must be text.')
  if issubclass(cls, builder_layers.SequentialLayer):
    whole_number(value, 'repeat', 0, what=what)
  elif 'sub' in value and 'variable_name_prefix' in value:
    text(value, 'variable_name_prefix', what=what)
  else:
    return
  check_layers(value.sub, f'{what}.sub', nested=nested)


def _kind(value: Any) -> str:
  if isinstance(value, hyperparams.InstantiableParams):
    return f'Params of {value.cls.__name__}'
  if isinstance(value, type):
    return f'the class {value.__name__}'
  if isinstance(value, base_layer.BaseLayer):
    return f'a layer, an instance of {type(value).__name__}'
  return repr(value)


def check_pipeline(p: Any) -> None:
  for name in ('before_tpl', 'cell_tpl'):
    check_layers(p.Get(name), f'{p.name}.{name}')
  if p.loss_tpl is not None:
    check_layer(p.loss_tpl, f'{p.name}.loss_tpl')
    _check_loss_call(p)
  of_schedule(p)
  for name in ('shared_inputs', 'side_inputs'):
    names(p, name)
  for name in ('bprop_variable_filter', 'bprop_variable_exclusion'):
    text(p, name, or_none=True)
  if p.loss_tpl is None and p.schedule != 'gpipe':
    raise ValueError(
      f'{p.name}.schedule is {p.schedule!r}, which needs loss_tpl: with the '
      'loss outside of the pipeline no backward task can run before all '
      "forward tasks have. Set loss_tpl, or schedule to 'gpipe'."
    )
  for entry in p.shared_inputs:
    if entry.replace('[', '.').split('.')[0] not in GIVEN:
      raise ValueError(
        f'{p.name}.shared_inputs has {entry!r}; names begin with one of '
        f"{GIVEN}, as in 'inputs[1]', 'targets.class_weights' or "
        "'side_inputs.mask'."
      )


def _check_loss_call(p: Any) -> None:
  fprop = inspect.signature(p.loss_tpl.cls.FProp)
  try:
    fprop.bind(None, None, None, None)
  except TypeError as error:
    raise ValueError(
      f'{p.name}.loss_tpl is Params of {p.loss_tpl.cls.__name__}, whose FProp '
      f'takes {fprop}; it must take (self, theta, outputs, targets): {error}. '
      '`outputs` is what the last cell returns, even if it is a tuple; '
      '`targets` is what ComputeLoss is given, and may be None.'
    ) from error


def check_cells(p: Any) -> None:
  """Raises ValueError if there are no cells, or they have no own names."""
  if not p.cell_tpl:
    raise ValueError(f'{p.name}.cell_tpl is empty; set at least one cell.')
  names = [layer.name for layer in [*p.before_tpl, *p.cell_tpl]]
  if not all(names) or len(set(names)) < len(names):
    raise ValueError(
      f'{p.name}: every layer of before_tpl and cell_tpl needs a name of its '
      f'own; they have {names}.'
    )
