# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Step seeds for the random ops of layers inside cells.

Lingvo's deterministic random ops take a pair of seeds: the global step and a
step seed, which counts the random ops of one graph. A cell is a graph of its
own and runs once for each micro-batch, so left alone two cells, or two
micro-batches, would draw the same random numbers. Here each layer has a range
of step seeds of its own for each micro-batch, by its place in the pipeline:

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

from lingvo_gpipe.engine.cell_function import Context

# How names of scopes end that `op_scope` makes.
OP_SCOPE = '.in_cell'


@dataclasses.dataclass(frozen=True)
class _Fields:
  """How many bits of a step seed each field has."""

  layer: int
  micro_batch: int
  op: int


_FIELDS = _Fields(layer=22, micro_batch=24, op=16)
_FIELDS_TPU = _Fields(layer=13, micro_batch=11, op=7)


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

  Lingvo would keep the seed of each graph, and so the graph, forever; from
  now on this thread does not.
  """
  kept = py_utils._STEP_SEED_DICT
  if not isinstance(kept.dict, _SeedsByGraph):
    by_graph = _SeedsByGraph()
    for key, seed in kept.dict.items():
      by_graph[key] = seed
    kept.dict = by_graph
  return tf.cast(py_utils.GetIncStepSeed(), tf.int64)


def _fields() -> _Fields:
  return _FIELDS_TPU if py_utils.use_tpu() else _FIELDS


def check_capacity(num_layers: int, num_micro_batches: int) -> None:
  """Raises ValueError if there are more layers or micro-batches than seeds."""
  fields = _fields()
  for what, number, bits in (
    ('layers', num_layers + 1, fields.layer),
    ('micro-batches', num_micro_batches, fields.micro_batch),
  ):
    if number > 2**bits:
      raise ValueError(
        f'The pipeline has {number} {what}; random seeds can tell at most '
        f'{2**bits} apart{" on TPU" if py_utils.use_tpu() else ""}.'
      )


@dataclasses.dataclass
class LayerScope:
  """The layers of a cell while it is traced.

  Attributes:
    context: The cell's context.
    numbers: The number of each layer, by its path.
    ops: For each layer run so far, its path and how many ops the graph had
      before and after.
    seed_ops: The ops that made the layers' step seeds.
    path: That of the layer that is being run, '' outside of all.
  """

  context: Context
  numbers: Mapping[str, int]
  ops: list[tuple[str, int, int]] = dataclasses.field(default_factory=list)
  seed_ops: list[tf.Operation] = dataclasses.field(default_factory=list)
  path: str = ''

  @functools.cached_property
  def seed(self) -> tf.Tensor:
    """What the step seeds of all layers of the micro-batch share."""
    return self.context.seed + self.context.micro_batch * 2 ** _fields().op


_SCOPES = py_utils.ThreadLocalStack()


@contextlib.contextmanager
def layer_scope(
  context: Context, numbers: Mapping[str, int]
) -> Iterator[LayerScope]:
  """Inside, `in_layer` gives each layer its seeds."""
  scope = LayerScope(context, numbers)
  _SCOPES.stack.append(scope)
  try:
    yield scope
  finally:
    _SCOPES.stack.pop()


def current_scope() -> LayerScope | None:
  """That of the cell which this thread traces."""
  return _SCOPES.stack[-1] if _SCOPES.stack else None


def in_cell() -> bool:
  """Whether a cell is being traced."""
  return bool(_SCOPES.stack)


def op_scope(name: str) -> contextlib.AbstractContextManager[str]:
  """A scope for the names of a layer's ops, inside a `layer_scope`.

  Lingvo takes the seeds of loops, and of layers that it repeats, from hashes
  of op names. With a scope of its own a layer's names do not depend on what
  else is in its cell. `without_op_scopes` takes it out of a name again.
  """
  return tf.name_scope(py_utils.SanitizeScopeKey(name) + OP_SCOPE)


def without_op_scopes(name: str) -> str:
  """A name as it would be without the scopes of `op_scope`."""
  return '/'.join(
    part for part in name.split('/') if not part.endswith(OP_SCOPE)
  )


@contextlib.contextmanager
def in_layer(path: str) -> Iterator[None]:
  """Resets Lingvo's step seed to that of a layer, inside a `layer_scope`.

  A layer without a number of its own, such as a layer in a layer, goes on with
  the seeds that are in force.
  """
  scope = _SCOPES.stack[-1] if _SCOPES.stack else None
  if scope is None or path not in scope.numbers:
    yield
    return
  fields = _fields()
  first = (scope.numbers[path] + 1) << (fields.micro_batch + fields.op)
  seed = scope.seed + first
  py_utils.ResetStepSeed(seed)
  scope.seed_ops.append(seed.op)
  graph = tf.get_default_graph()
  before = graph.num_operations()
  scope.path = path
  yield
  scope.path = ''
  scope.ops.append((path, before, graph.num_operations()))
