# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Values that layers pass by name to later layers, past those between.

A layer puts a value aside, later ones take it. Both happen inside a `scope`,
which the pipeline opens around each cell and a user around layers that run
without one:

```
  with named_values.scope({'mask': mask}) as values:
    x = values.put('skip', x)     # by the layers, through the functions below
    ...
    x = x + values.take('skip')
```

Gradients must not depend on where the pipeline is cut, to the last bit. So the
gradient of a value is never a sum of more than two terms: each put and each
take splits the value in two, and the terms are added in one order wherever the
takers are:

```
  value --+--> goes on                        d value = d goes on + d aside
          '--> aside --+--> first taker       d aside = d first + d rest
                       '--> rest --+--> second taker
                                   '--> rest ...
```
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lingvo.core import py_utils

from lingvo_gpipe.engine.barrier import barrier


@dataclasses.dataclass(frozen=True)
class Declaration:
  """What a layer's Params say of named values.

  Attributes:
    puts: Names of values that it puts aside.
    takes: Names of values that it takes, put by earlier layers or given to
      the pipeline as side inputs.
    weights_of: Maps a name in the layer's theta to the layer whose weights
      are to stand there; 'layer.a.b' stands for the part a.b of its theta.
  """

  puts: Sequence[str] = ()
  takes: Sequence[str] = ()
  weights_of: Mapping[str, str] = dataclasses.field(default_factory=dict)


def declared(params: Any) -> Declaration:
  """What a layer's Params declare: nothing for layers without named values.

  Args:
    params: Params of any layer. Its class declares by a class method
      `NamedValues(params)`, which returns a Declaration; see
      `named_layers.NamedValueLayer`.
  """
  declare = getattr(params.cls, 'NamedValues', None)
  return Declaration() if declare is None else declare(params)


class Scope:
  """The values that are there while layers run."""

  def __init__(self, given: Mapping[str, Any]):
    """Starts with the given values: nests of tensors or None, by name."""
    self._values = dict(given)
    self._put: list[str] = []
    self._taken: list[str] = []

  @property
  def put_names(self) -> tuple[str, ...]:
    """The names put so far, in order."""
    return tuple(self._put)

  @property
  def taken_names(self) -> tuple[str, ...]:
    """The names taken so far, each once, in order."""
    return tuple(dict.fromkeys(self._taken))

  def rest(self, name: str) -> Any:
    """The value that the next taker would get a part of."""
    return self._values[name]

  def put(self, name: str, value: Any) -> Any:
    """See the function `put`."""
    if name in self._values:
      raise ValueError(
        f'The value {name!r} is put aside a second time; give each its name.'
      )
    goes_on, self._values[name] = split(value)
    self._put.append(name)
    return goes_on

  def take(self, name: str) -> Any:
    """See the function `take`."""
    if name not in self._values:
      raise ValueError(
        f'There is no value {name!r} to take; there are '
        f'{sorted(self._values)}. In a pipeline the Params of a layer must '
        'declare what it puts and takes.'
      )
    mine, self._values[name] = split(self._values[name])
    self._taken.append(name)
    return mine


def split(value: Any) -> tuple[Any, Any]:
  """A nest twice, as two nodes: its gradient is a sum of two terms."""
  return barrier(value, dense=True), barrier(value, dense=True)


_SCOPES = py_utils.ThreadLocalStack()


@contextlib.contextmanager
def scope(given: Mapping[str, Any] | None = None) -> Iterator[Scope]:
  """Inside, layers can put and take values; outer scopes are not visible.

  Args:
    given: Values that are already there: a nest of tensors, or None, for each
      name.
  """
  values = Scope(given or {})
  _SCOPES.stack.append(values)
  try:
    yield values
  finally:
    _SCOPES.stack.pop()


def put(name: str, value: Any) -> Any:
  """Puts a value aside for later layers.

  Args:
    name: Its name.
    value: A nest of tensors; a None in it stays None.

  Returns:
    The value to use from then on in place of `value`. Using `value` as well
    would make its gradient a sum whose order depends on the cut.

  Raises:
    ValueError: There is a value of this name already, or no scope.
  """
  return _innermost(f'put {name!r} aside').put(name, value)


def take(name: str) -> Any:
  """Returns the value that was put aside, or given, under a name.

  Raises:
    ValueError: There is no value of this name, or no scope.
  """
  return _innermost(f'take {name!r}').take(name)


def _innermost(purpose: str) -> Scope:
  if not _SCOPES.stack:
    raise ValueError(
      f'Cannot {purpose} outside of a pipeline: run the layers inside '
      '`with lingvo_gpipe.pipeline.named_values.scope(side_inputs):`.'
    )
  return _SCOPES.stack[-1]
