# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks of Params, and shapes and dtypes as text in them."""

import inspect
import numbers
import re
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, builder_layers, hyperparams, py_utils

from lingvo_gpipe.schedules import (
  FIT,
  RECOMPUTE_POLICIES,
  check_name,
  schedule_file,
  schedule_names,
)

_ENTRY = re.compile(
  r'\s*(?:(?P<name>[A-Za-z]\w*)\s*=\s*)?'
  r'(?:(?P<none>None)|(?P<dtype>\w+)\s*\[(?P<shape>[\w?,\s]*)\])\s*(?:,|$)'
)
# How a dimension that is not known is written; `specs` refuses it by name.
_UNKNOWN = ('None', '?')


# What a mini-batch is made of, and what names in shared_inputs begin with.
GIVEN = ('inputs', 'targets', 'side_inputs')


def of_schedule(params: Any) -> None:
  """Raises ValueError if Params of a schedule cannot be used."""
  whole_number(params, 'num_micro_batches', 1)
  whole_number(params, 'micro_batch_size', 1, or_none=True)
  whole_number(params, 'batch_dim', 0)
  if str(params.schedule).startswith(schedule_file.PREFIX):
    try:
      check_name(params.schedule)
    except ValueError as error:
      raise ValueError(
        f'{params.name}.schedule is {params.schedule!r}: {error}'
      ) from error
  else:
    one_of(params, 'schedule', schedule_names())
  _check_recompute(params)


def _check_recompute(params: Any) -> None:
  """Raises ValueError if `recompute` is no policy and no list of names."""
  value = params.recompute
  is_list = isinstance(value, list | tuple)
  if not (
    all(isinstance(name, str) for name in value)
    if is_list
    else value in (*RECOMPUTE_POLICIES, FIT)
  ):
    raise ValueError(
      f'{params.name}.recompute is {value!r}; it must be one of '
      f'{(*RECOMPUTE_POLICIES, FIT)}, or a list with the names of the layers '
      'whose activations are kept.'
    )


def whole_number(
  params: Any, name: str, least: int, *, or_none: bool = False, what: str = ''
) -> None:
  """Raises ValueError if a Param is no whole number: '4', 4.0 or True.

  Errors call the Params `what`, or by their name.
  """
  value = params.Get(name)
  if value is None and or_none:
    return
  if (
    not isinstance(value, numbers.Integral)
    or isinstance(value, bool)
    or value < least
  ):
    none = ', or None' if or_none else ''
    raise ValueError(
      f'{what or params.name}.{name} is {value!r}; it must be a whole number '
      f'of {least} or more{none}.'
    )


def names(params: Any, name: str) -> None:
  """Raises ValueError if a Param is no list of names, but one name, say."""
  value = params.Get(name)
  if not isinstance(value, list | tuple) or not all(
    isinstance(entry, str) for entry in value
  ):
    example = f', as in [{value!r}]' if isinstance(value, str) else ''
    raise ValueError(
      f'{params.name}.{name} is {value!r}; it must be a list of names{example}.'
    )


def one_of(params: Any, name: str, allowed: Sequence[str]) -> None:
  """Raises ValueError if a Param is none of the names allowed."""
  value = params.Get(name)
  if value not in allowed:
    raise ValueError(
      f'{params.name}.{name} is {value!r}; it must be one of {allowed}.'
    )


def text(
  params: Any, name: str, *, or_none: bool = False, what: str = ''
) -> None:
  """Raises ValueError if a Param is not text; see `whole_number`."""
  value = params.Get(name)
  if not isinstance(value, str) and not (value is None and or_none):
    raise ValueError(
      f'{what or params.name}.{name} is {value!r}; it must be text.'
    )


def specs(value: Any, what: str) -> Any:
  """Returns a nest of tensor specs.

  Lingvo writes Params to text and reads them back, from a command line too, but
  reads no tensor specs. So Params that name shapes take text as well:

  ```
    'float32[16,8,8,1]'                       one tensor
    'float32[16,32,64], int32[16,32], None'   several arguments
    'ids=int32[16,32], paddings=float32[16,32]'   a NestedMap
  ```

  A nest of `tf.TensorSpec`s is returned as it is. Errors call the Param `what`.

  Raises:
    ValueError: The text is not of this form, or a shape is not fully known.
  """
  given = value
  if isinstance(value, str):
    value = _parse_text(value, what)
  for spec in tf.nest.flatten(value):
    if spec is None:
      continue
    if not isinstance(spec, tf.TensorSpec):
      raise ValueError(
        f'{what} is {given!r}; {spec!r} in it is not a tf.TensorSpec. Write '
        "text such as 'float32[16,8,8,1]', or tensor specs."
      )
    if not spec.shape.is_fully_defined():
      raise ValueError(
        f'{what} is {given!r}; every dimension must be known, '
        'that of the batch too: the number of examples in a micro-batch.'
      )
  return value


def _parse_text(text: str, what: str) -> Any:
  entries: list[tuple[str | None, tf.TensorSpec | None]] = []
  position = 0
  while position < len(text):
    match = _ENTRY.match(text, position)
    if match is None:
      raise ValueError(
        f'{what} is {text!r}, which cannot be read from {text[position:]!r} '
        "on. Write it like 'float32[16,8,8,1]', several tensors with commas "
        "between them, names like 'ids=int32[16,32]'."
      )
    entries.append((match['name'], _spec(match, what)))
    position = match.end()
  names = [name for name, _ in entries]
  if any(names):
    if not all(names) or len(set(names)) < len(names):
      raise ValueError(
        f'{what} is {text!r}; either all of its tensors have names, which '
        'differ, or none has one.'
      )
    return py_utils.NestedMap(dict(entries))
  specs = tuple(spec for _, spec in entries)
  return specs[0] if len(specs) == 1 else specs


def _spec(match: re.Match[str], what: str) -> tf.TensorSpec | None:
  if match['none']:
    return None
  try:
    dtype = tf.as_dtype(match['dtype'])
  except TypeError as error:
    raise ValueError(
      f'{what} has the dtype {match["dtype"]!r}, which TensorFlow does not '
      "know; use 'float32', 'bfloat16', 'int32' and the like."
    ) from error
  sizes = [size.strip() for size in match['shape'].split(',') if size.strip()]
  if not all(size.isdecimal() or size in _UNKNOWN for size in sizes):
    raise ValueError(
      f'{what} has the shape [{match["shape"]}]; write whole numbers.'
    )
  return tf.TensorSpec(
    [None if size in _UNKNOWN else int(size) for size in sizes], dtype
  )


# -- Layers.


def check_layers(value: Any, what: str, *, nested: bool = False) -> None:
  """Checks that a Param is a list of layers' Params, and sequences in it, too.

  Call it before Params are copied, because layers with variables cannot be.

  Args:
    value: The Param's value.
    what: The Param, for errors.
    nested: Whether lists may be in it, to any depth, or one layer in its place.

  Raises:
    ValueError: It has something else in it, such as a layer.
  """
  if isinstance(value, list | tuple):
    for i, layer in enumerate(value):
      if nested:
        check_layers(layer, f'{what}[{i}]', nested=True)
      else:
        check_layer(layer, f'{what}[{i}]')
  elif nested:
    check_layer(value, what, nested=True)
  else:
    raise ValueError(
      f'{what} is {_kind(value)}; it must be a list of Params of layers.'
    )


def check_layer(value: Any, what: str, *, nested: bool = False) -> None:
  """The same for a Param that is one layer's Params."""
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
  """A Param's value in a few words."""
  if isinstance(value, hyperparams.InstantiableParams):
    return f'Params of {value.cls.__name__}'
  if isinstance(value, type):
    return f'the class {value.__name__}'
  if isinstance(value, base_layer.BaseLayer):
    return f'a layer, an instance of {type(value).__name__}'
  return repr(value)


# -- Pipelines.


def check_pipeline(p: Any) -> None:
  """Raises ValueError if Params of a pipeline are not usable."""
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
  _check_shared_inputs(p)


def _check_loss_call(p: Any) -> None:
  """Raises ValueError if loss_tpl takes no outputs and targets."""
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
  if not all(names):
    raise ValueError(
      f'{p.name}: every layer of before_tpl and cell_tpl needs a name; they '
      f'have {names}.'
    )
  if len(set(names)) < len(names):
    raise ValueError(
      f'{p.name}: the names of before_tpl and cell_tpl must differ; they are '
      f'{names}.'
    )


def _check_shared_inputs(params: Any) -> None:
  """Raises ValueError if Params name something that cannot be an input."""
  for entry in params.shared_inputs:
    root = str(entry).replace('[', '.').split('.')[0]
    if root not in GIVEN:
      raise ValueError(
        f'{params.name}.shared_inputs has {entry!r}; names begin with one of '
        f"{GIVEN}, as in 'inputs[1]', 'targets.class_weights' or "
        "'side_inputs.mask'."
      )
