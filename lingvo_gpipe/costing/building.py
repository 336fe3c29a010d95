# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers built apart from all others, to see what they need; each kind once."""

import concurrent.futures
import contextlib
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

import lingvo.compat as tf
from lingvo.core import cluster_factory, py_utils

_Result = TypeVar('_Result')
_Value = TypeVar('_Value')


def in_build_thread(function: Callable[[], _Result]) -> _Result:
  """Calls a function in a thread of its own, under the caller's cluster.

  Within another layer's __init__, Lingvo would take the layers that are built
  for that layer's children. It keeps book of them, and of clusters, by thread.

  In eager mode a thread without a graph would start TensorFlow's devices, with
  more threads than training on CPU devices wants.
  """
  cluster = cluster_factory.Current()

  def run() -> _Result:
    with tf.Graph().as_default(), cluster:
      return function()

  with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
    return thread.submit(run).result()


@contextlib.contextmanager
def own_graph() -> Iterator[tf.Graph]:
  """A graph to build layers in, as for training; the cluster is kept."""
  cluster = cluster_factory.Current().params.Copy().Set(do_eval=False)
  with tf.Graph().as_default() as graph, cluster.Instantiate():
    py_utils.GetOrCreateGlobalStepVar()
    yield graph


class LayerError(ValueError):
  """A layer that cannot be costed; the message names it."""


@contextlib.contextmanager
def explained(name: str, params: Any, call: object = None) -> Iterator[None]:
  """Errors inside say which layer it was, and what it was given.

  Args:
    name: The layer's name, as the user knows it.
    params: Its Params.
    call: What it is called with, which can be text; None while it is only
      built.
  """
  try:
    yield
  except LayerError:
    raise
  except Exception as error:
    problem = 'cannot be built'
    if call is not None:
      problem = f'cannot run on {call}'
    raise LayerError(
      f'Layer {name!r} ({params.cls.__name__}) {problem}, so it has no cost: '
      f'{error}'
    ) from error


class ParamsCache(Generic[_Value]):
  """A dictionary by Params, the name left aside, and a further key.

  Params are compared, not turned into text, which would take longer than all
  else for a model of a thousand layers.
  """

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
  return str(params.Copy().Set(name='layer').ToText())
