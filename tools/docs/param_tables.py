# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Params that layers define, as data: name, default and text."""

import dataclasses
import inspect
import types
from collections.abc import Iterator
from typing import Any

import lingvo.compat as tf
from lingvo.core import hyperparams

_PACKAGE = 'lingvo_gpipe.'
_LONG = 60


@dataclasses.dataclass(frozen=True)
class Param:
  """One Param: the default is Python text, `text` '' if a base class has it."""

  name: str
  default: str
  text: str


@dataclasses.dataclass(frozen=True)
class ParamTable:
  """What one class, or one function, defines.

  Attributes:
    doc: The first paragraph of its docstring, as one line.
    parent: The class whose Params it has as well, '' for a function.
    params: Those it defines, and those whose default it changes.
  """

  name: str
  doc: str
  parent: str
  params: tuple[Param, ...]


def tables(module: types.ModuleType) -> Iterator[ParamTable]:
  """The tables of a module's public layers and Params, in its order."""
  for name, value in vars(module).items():
    if name.startswith('_') or getattr(value, '__module__', '') != (
      module.__name__
    ):
      continue
    if inspect.isclass(value) and hasattr(value, 'Params'):
      yield _of_class(value)
    elif inspect.isfunction(value) and name.endswith('Params'):
      params = value()
      yield ParamTable(name, _first_paragraph(value), '', tuple(_all(params)))


def _of_class(cls: Any) -> ParamTable:
  parent = next(base for base in cls.__mro__[1:] if hasattr(base, 'Params'))
  inherited = {param.name: param for param in _all(parent.Params())}
  found = []
  for param in _all(cls.Params()):
    before = inherited.get(param.name)
    if before is None:
      found.append(param)
    elif before.default != param.default:
      found.append(dataclasses.replace(param, text=''))
  ours = parent.__module__.startswith(_PACKAGE)
  return ParamTable(
    cls.__name__,
    _first_paragraph(cls),
    parent.__name__ if ours else f'{parent.__module__}.{parent.__name__}',
    tuple(found),
  )


def _all(params: Any) -> Iterator[Param]:
  for name, value in params.IterParams():
    yield Param(name, _text(value), params._params[name]._description)


def _text(value: Any) -> str:
  """A default as Python text; of what is long, what it is."""
  if isinstance(value, hyperparams.InstantiableParams):
    return f'{value.cls.__name__}.Params()'
  if isinstance(value, hyperparams.Params):
    return 'Params'
  if isinstance(value, tf.DType):
    return f'tf.{value.name}'
  if isinstance(value, str | int | float | bool | type(None)):
    return repr(value)
  text = repr(value) if isinstance(value, list | tuple | dict) else ''
  return text if 0 < len(text) <= _LONG else f'a {type(value).__name__}'


def _first_paragraph(value: Any) -> str:
  doc = inspect.cleandoc(value.__doc__ or '')
  return ' '.join(doc.split('\n\n')[0].split())
