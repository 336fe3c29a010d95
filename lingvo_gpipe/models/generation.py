# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Continues prompts token by token, through the cells of a pipeline.

The first pass takes the tokens that all prompts have. After that each pass
takes one token. The keys and values of earlier tokens, which attention needs,
stay on the device of their cell from pass to pass. Only one vector per row goes
from device to device, and one token per row goes back to the first cell.

Rows are split into micro-batches, so that all cells work at the same time.
There is no barrier between passes: a micro-batch continues as soon as its token
is there.

```
  cell 0   a1 b1 a2 b2 a3 b3 ...        rows a, rows b; pass 1, 2, ...
  cell 1      a1 b1 a2 b2 a3 ...
```
"""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils

from lingvo_gpipe.engine import micro_batches
from lingvo_gpipe.engine.tensors import on_device
from lingvo_gpipe.pipeline import tied_weights
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
)

_PADDING = 0


@dataclasses.dataclass(frozen=True)
class Sampling:
  """How to choose the next token by its logits.

  Attributes:
    temperature: What logits are divided by. 0: always the most probable token.
    top_k: Choose among the k most probable tokens only; 0: among all.
    top_p: Choose among the most probable tokens that together have this
      probability (after top_k and temperature); at least one of them.
      Source: Holtzman et al., "The Curious Case of Neural Text Degeneration",
      arXiv:1904.09751.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0

  def __post_init__(self):
    if not 0.0 <= self.temperature < float('inf'):
      raise ValueError(
        f'temperature must be 0 (greedy) or more, got {self.temperature}.'
      )
    if self.top_k < 0:
      raise ValueError(f'top_k must be 0 (all) or more, got {self.top_k}.')
    if not 0.0 < self.top_p <= 1.0:
      raise ValueError(f'top_p must lie in (0, 1], got {self.top_p}.')


def generate(
  pipeline: base_layer.BaseLayer,
  theta: Any,
  prompts: tf.Tensor,
  prompt_lengths: tf.Tensor,
  max_length: int,
  how: Sampling,
  *,
  seed: Any = 0,
  end_id: int | None = None,
  limit: tf.Tensor | None = None,
  num_micro_batches: int | None = None,
) -> py_utils.NestedMap:
  """Continues prompts.

  Args:
    pipeline: A PipeliningLayer whose layers have `ZeroState` and `ExtendStep`;
      the first takes ids, the last gives logits. See `transformer_layers`.
    prompts: int32 [batch, length]; the batch is static. What is after a
      prompt's end does not matter.
    prompt_lengths: int32 [batch], 1 to max_length.
    max_length: How many tokens a row can have, its prompt included.
    seed: An int, or an int scalar tensor. Which tokens are chosen at random
      depends on it, the row and the place in the row.
    end_id: An id after which nothing more is generated in a row; None if there
      is none.
    limit: An int32 scalar tensor: how many tokens rows have in the end, at most
      max_length; None for max_length.
    num_micro_batches: M; by default one for each cell, as far as rows go.

  Returns:
    A NestedMap with
      ids: int32 [batch, max_length], prompts and what follows; 0 behind
        `end_id` and the limit.
      lengths: int32 [batch], the number of tokens up to and with `end_id`; the
        limit where there is none.

  Raises:
    ValueError: A layer cannot be run so, or the batch is not static.
  """
  if prompts.shape.rank != 2 or prompts.shape[0] is None:
    raise ValueError(
      'prompts must be [batch, length] with a static batch, got shape '
      f'{prompts.shape}.'
    )
  if max_length < 1:
    raise ValueError(f'max_length must be positive, got {max_length}.')
  batch = int(prompts.shape[0])
  sizes = micro_batches.choose_sizes(
    batch, min(num_micro_batches or len(pipeline.cells), batch), None
  )
  with tf.name_scope('generate'):
    cells = _Cells(pipeline, theta)
    rows = _Rows(cells, sizes, max_length, how, seed, end_id)
    return rows.run(prompts, prompt_lengths, limit)


@contextlib.contextmanager
def _loops_as_functions() -> Iterator[None]:
  """Inside, loops are those of TensorFlow 2, in which a state stays put.

  A loop of TensorFlow 1 keeps its variables on one device, and would send each
  cell's state there and back in each pass.
  """
  if tf.tf1.control_flow_v2_enabled():
    yield
    return
  tf.tf1.enable_control_flow_v2()
  try:
    yield
  finally:
    tf.tf1.disable_control_flow_v2()


class _Cells:
  """The cells of a pipeline, to be run with remembered state."""

  def __init__(self, pipeline: base_layer.BaseLayer, theta: Any):
    theta = tied_weights.tie(pipeline, theta, pipeline.device_of)
    devices = pipeline.cell_devices
    self.last_device = devices[-1]
    self._layers = [
      (layer, of_layer, device)
      for cell, device in zip(pipeline.cells, devices, strict=True)
      for layer, of_layer in _layers(cell, theta[cell.params.name])
    ]
    for layer, _, _ in self._layers:
      if not hasattr(layer, 'ExtendStep'):
        raise ValueError(
          f'Layer {layer.path} ({type(layer).__name__}) has no ZeroState and '
          'ExtendStep, which generation needs; see models.transformer_layers.'
        )

  def zero_state(self, batch: int, max_length: int) -> list[Any]:
    """The state of each layer, on its cell's device."""
    states = []
    for layer, _, device in self._layers:
      with on_device(device):
        states.append(layer.ZeroState(batch, max_length))
    return states

  def step(
    self, ids: tf.Tensor, states: list[Any], time: tf.Tensor
  ) -> tuple[tf.Tensor, list[Any]]:
    """Runs the tokens `ids`, [batch, new], at places `time` and on.

    Returns:
      Logits of the token after them, [batch, vocab_size], and new states.
    """
    x, after = ids, []
    for (layer, theta, device), state in zip(self._layers, states, strict=True):
      with on_device(device):
        x, state = layer.ExtendStep(theta, x, state, time)
        after.append(state)
    with on_device(self.last_device):
      return x[:, -1], after


def _layers(
  cell: base_layer.BaseLayer, theta: Any
) -> Iterator[tuple[base_layer.BaseLayer, Any]]:
  """The layers of a cell in order, with their weights."""
  if not isinstance(cell, FeatureExtractionLayer):
    yield cell, theta
    return
  for key, layer in cell.children.items():
    yield from _layers(layer, theta[key])


@dataclasses.dataclass(frozen=True)
class _Rows:
  """The rows that are generated, in micro-batches; fields as of `generate`.

  Tokens are chosen where the last cell is.
  """

  cells: _Cells
  sizes: micro_batches.MicroBatchSizes
  max_length: int
  how: Sampling
  seed: Any
  end_id: int | None

  def run(
    self, prompts: tf.Tensor, given: tf.Tensor, limit: tf.Tensor | None
  ) -> py_utils.NestedMap:
    """Continues the prompts, of which so many tokens are given."""
    first, limit, parts = self._start(prompts, given, limit)
    random = self._random(first)
    rows = []
    for m, part in enumerate(parts):
      size = self.sizes.sizes[m]
      states = self.cells.zero_state(size, self.max_length)
      logits, states = self.cells.step(part.ids[:, :first], states, 0)
      rows.append(self._choose(part, logits, states, random[m], first))

    def goes_on(time: Any, done: tf.Tensor, unused_rows: Any) -> tf.Tensor:
      del unused_rows
      more = time < limit - 1
      return tf.logical_and(more, tf.logical_not(done))

    def body(time: tf.Tensor, unused_done: Any, rows: Sequence[Any]) -> Any:
      # Known before this pass: waiting for all rows of the last one would be
      # a barrier between passes. So there is one pass more than needed.
      done = self._all_ended(rows, time)
      random = self._random(time + 1)
      after = []
      for m, row in enumerate(rows):
        logits, states = self.cells.step(row.token, row.states, time)
        after.append(self._choose(row, logits, states, random[m], time + 1))
      return time + 1, done, after

    with _loops_as_functions():
      _, _, rows = tf.while_loop(
        goes_on, body, [first, tf.constant(False), rows], name='tokens'
      )
    with on_device(self.cells.last_device):
      results = [
        py_utils.NestedMap(ids=row.ids, lengths=row.lengths) for row in rows
      ]
      return micro_batches.merge(results, [0, 0])

  def _start(
    self, prompts: tf.Tensor, given: tf.Tensor, limit: tf.Tensor | None
  ) -> tuple[tf.Tensor, tf.Tensor, list[py_utils.NestedMap]]:
    """How many tokens all prompts have; the limit; and the micro-batches."""
    with on_device(self.cells.last_device):
      if limit is None:
        limit = tf.constant(self.max_length)
      limit = tf.clip_by_value(limit, 1, self.max_length)
      given = tf.cast(given, tf.int32)
      ids = tf.cast(prompts, tf.int32)[:, : self.max_length]
      room = self.max_length - tf.shape(ids)[1]
      ids = tf.pad(ids, [[0, 0], [0, room]])
      ids.set_shape([prompts.shape[0], self.max_length])
      here = tf.minimum(given, limit)
      behind = tf.range(self.max_length) >= here[:, tf.newaxis]
      ids = tf.where_v2(behind, _PADDING, ids)
      first = tf.clip_by_value(tf.reduce_min(given), 1, limit)
      parts = micro_batches.split(
        py_utils.NestedMap(
          ids=ids,
          given=given,
          lengths=tf.fill([prompts.shape[0]], limit),
        ),
        [0, 0, 0],
        self.sizes,
      )
    return first, limit, parts

  def _random(self, time: tf.Tensor) -> list[tf.Tensor]:
    """A number in [0, 1) for each row, which depends on the place `time`."""
    with on_device(self.cells.last_device):
      numbers = tf.random.stateless_uniform(
        [self.sizes.batch], seed=tf.stack([tf.cast(self.seed, tf.int32), time])
      )
      return tf.split(numbers, list(self.sizes.sizes))

  def _choose(
    self,
    row: py_utils.NestedMap,
    logits: tf.Tensor,
    states: Any,
    random: tf.Tensor,
    time: tf.Tensor,
  ) -> py_utils.NestedMap:
    """Puts a token at the place `time`, if there is none of the prompt."""
    with on_device(self.cells.last_device):
      here = tf.equal(tf.range(self.max_length), time)
      chosen = choose(logits, random, self.how)
      ended = row.lengths <= time
      chosen = tf.where_v2(ended, _PADDING, chosen)
      of_prompt = time < row.given
      free = tf.logical_and(here, tf.logical_not(of_prompt)[:, tf.newaxis])
      ids = tf.where_v2(free, chosen[:, tf.newaxis], row.ids)
      lengths = row.lengths
      if self.end_id is not None:
        may_end = tf.logical_not(tf.logical_or(of_prompt, ended))
        ends = tf.logical_and(may_end, tf.equal(chosen, self.end_id))
        lengths = tf.where_v2(ends, time + 1, lengths)
      token = tf.gather(ids, tf.minimum(time, self.max_length - 1), axis=1)
      return py_utils.NestedMap(
        ids=ids,
        given=row.given,
        lengths=lengths,
        states=states,
        token=token[:, tf.newaxis],
      )

  def _all_ended(self, rows: Sequence[Any], time: tf.Tensor) -> tf.Tensor:
    if self.end_id is None:
      return tf.constant(False)
    with on_device(self.cells.last_device):
      lengths = tf.concat([row.lengths for row in rows], axis=0)
      return tf.reduce_all(lengths <= time)


def choose(logits: tf.Tensor, uniform: tf.Tensor, how: Sampling) -> tf.Tensor:
  """Chooses a token for each row.

  Args:
    uniform: Float32 random numbers in [0, 1), [batch]. Unused when greedy.

  Returns:
    An int32 tensor [batch]. Of equally probable tokens lower ids come first.
  """
  logits = tf.cast(logits, tf.float32)
  if how.temperature == 0.0:
    return tf.argmax(logits, axis=-1, output_type=tf.int32)
  vocab_size = int(logits.shape[-1])
  top_k = min(how.top_k or vocab_size, vocab_size)
  logits, ids = tf.math.top_k(logits / how.temperature, top_k)
  probabilities = tf.nn.softmax(logits)
  if how.top_p < 1.0:
    before = tf.cumsum(probabilities, axis=-1, exclusive=True)
    probabilities = tf.where_v2(before < how.top_p, probabilities, 0.0)
  # The first token at which the sum exceeds a random share of the whole.
  sums = tf.cumsum(probabilities, axis=-1)
  below = sums <= uniform[:, tf.newaxis] * sums[:, -1:]
  place = tf.reduce_sum(tf.cast(below, tf.int32), axis=-1)
  place = tf.minimum(place, top_k - 1)
  return tf.gather(ids, place, batch_dims=1)
