# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks of single Params: what a value is, and what it may be."""

import numbers
from collections.abc import Sequence
from typing import Any

from lingvo_gpipe.schedules import RECOMPUTE_POLICIES, SCHEDULE_NAMES


def of_schedule(params: Any) -> None:
  """Checks what a pipeline's Params say of micro-batches and their order.

  Raises:
    ValueError: One of them cannot be used.
  """
  whole_number(params, 'num_micro_batches', 1)
  whole_number(params, 'micro_batch_size', 1, or_none=True)
  whole_number(params, 'batch_dim', 0)
  one_of(params, 'schedule', SCHEDULE_NAMES)
  one_of(params, 'recompute', RECOMPUTE_POLICIES)


def whole_number(
  params: Any, name: str, least: int, *, or_none: bool = False, what: str = ''
) -> None:
  """Checks that a Param is a whole number: not '4', 4.0 or True.

  Args:
    params: The Params.
    name: The Param.
    least: The least number allowed.
    or_none: Whether None is allowed as well.
    what: What errors call the Params; their name if it is not given.

  Raises:
    ValueError: It is something else, or too small.
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
  """Checks that a Param is a list of names.

  Args:
    params: The Params.
    name: The Param.

  Raises:
    ValueError: It is something else, such as one name.
  """
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
