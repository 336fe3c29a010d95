# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Step seeds for the random ops of layers inside cells.

Lingvo's step seed counts the random ops of one graph. A cell is a graph of its
own and runs once for each micro-batch. So each layer has its own range of them:

```
  step seed =  seed around the pipeline
             + (layer's number + 1) | micro-batch | random op within the layer
```
"""

import contextlib
import dataclasses
import functools
import weakref
from collections.abc import Iterator, Mapping

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.engine.micro_batches import Context

# How names of scopes end that `op_scope` makes.
OP_SCOPE = '.in_cell'


def _bits() -> tuple[int, int]:
  """How many bits of a seed number the micro-batch, and the op in a layer."""
  return (11, 7) if py_utils.use_tpu() else (24, 16)


class _SeedsByGraph(weakref.WeakValueDictionary[int, tf.Tensor]):
  """Step seeds by the id of their graph, each kept by its graph alone."""

  def __init__(self) -> None:
    super().__init__()
    self._of_no_graph: dict[int, tf.Tensor] = {}

  def __setitem__(self, key: int, seed: tf.Tensor) -> None:
    super().__setitem__(key, seed)
    if tf.is_symbolic_tensor(seed):
      self._of_no_graph.pop(key, None)
    else:
      self._of_no_graph[key] = seed


def next_seed() -> tf.Tensor:
  """The step seed around a pipeline, an int64 scalar; moves it on by one.

  From now on Lingvo does not keep the graphs of this thread's seeds forever.
  """
  kept = py_utils._STEP_SEED_DICT
  if not isinstance(kept.dict, _SeedsByGraph):
    by_graph = _SeedsByGraph()
    for key, seed in kept.dict.items():
      by_graph[key] = seed
    kept.dict = by_graph
  return tf.cast(py_utils.GetIncStepSeed(), tf.int64)


@dataclasses.dataclass
class LayerScope:
  """The layers of a cell while it is traced.

  Attributes:
    numbers: The number of each layer, by its path.
    ops: For each layer run so far, its path and how many ops the graph had
      before and after.
    seed_ops: The ops that made the layers' step seeds.
    path: Of the layer that is being run, or ''.
  """

  context: Context
  numbers: Mapping[str, int]
  ops: list[tuple[str, int, int]] = dataclasses.field(default_factory=list)
  seed_ops: list[tf.Operation] = dataclasses.field(default_factory=list)
  path: str = ''

  @functools.cached_property
  def seed(self) -> tf.Tensor:
    """What the step seeds of all layers of the micro-batch share."""
    return self.context.seed + self.context.micro_batch * 2 ** _bits()[1]


_SCOPES = py_utils.ThreadLocalStack()


@contextlib.contextmanager
def layer_scope(
  context: Context, numbers: Mapping[str, int]
) -> Iterator[LayerScope]:
  scope = LayerScope(context, numbers)
  _SCOPES.stack.append(scope)
  try:
    yield scope
  finally:
    _SCOPES.stack.pop()


def current_scope() -> LayerScope | None:
  return _SCOPES.stack[-1] if _SCOPES.stack else None


def op_scope(name: str) -> contextlib.AbstractContextManager[str]:
  """A scope for the names of a layer's ops, inside a `layer_scope`.

  Lingvo takes seeds of loops from op names, which must not depend on the cell.
  """
  return tf.name_scope(py_utils.SanitizeScopeKey(name) + OP_SCOPE)


def without_op_scopes(name: str) -> str:
  parts = name.split('/')
  return '/'.join(part for part in parts if not part.endswith(OP_SCOPE))


@contextlib.contextmanager
def in_layer(path: str) -> Iterator[None]:
  """Resets Lingvo's step seed to that of a layer, if it has a number."""
  scope = current_scope()
  if scope is None or path not in scope.numbers:
    yield
    return
  number = scope.numbers[path] + 1
  seed = scope.seed + (number << sum(_bits()))
  py_utils.ResetStepSeed(seed)
  scope.seed_ops.append(seed.op)
  graph = tf.get_default_graph()
  before = graph.num_operations()
  scope.path = path
  yield
  scope.path = ''
  scope.ops.append((path, before, graph.num_operations()))
