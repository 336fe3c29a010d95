# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Finds what is known of a layer with the same Params.

Params are compared, not turned into text, which would take longer than all
else for a model of a thousand layers.
"""

from collections.abc import Hashable
from typing import Any, Generic, TypeVar

_Value = TypeVar('_Value')


class ParamsCache(Generic[_Value]):
  """A dictionary by Params, the name left aside, and a further key."""

  def __init__(self) -> None:
    self._known: dict[Hashable, list[tuple[Any, _Value]]] = {}

  def get(self, params: Any, key: Hashable = None) -> _Value | None:
    """What was added for the same Params and key; None if nothing was."""
    for known, value in self._known.get((params.cls, key), ()):
      if equal_but_name(known, params):
        return value
    return None

  def add(self, params: Any, key: Hashable, value: _Value) -> None:
    self._known.setdefault((params.cls, key), []).append((params, value))


def equal_but_name(a: Any, b: Any) -> bool:
  """Whether layer Params are equal, their own names left aside."""
  if a is b:
    return True
  values, others = dict(a.IterParams()), dict(b.IterParams())
  if values.keys() != others.keys():
    return False
  try:
    return all(
      value == others[name] for name, value in values.items() if name != 'name'
    )
  except ValueError:
    # Arrays in Params have no single truth value.
    return as_text(a) == as_text(b)


def as_text(params: Any) -> str:
  """Layer Params as text, without the name."""
  return params.Copy().Set(name='layer').ToText()
