# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Continues prompts token by token, through the cells of a pipeline.

The first pass takes the tokens that all prompts have, each other one token.
Keys and values of earlier tokens stay on the device of their cell. Rows are
split into micro-batches, so that all cells work at the same time:

```
  cell 0   a1 b1 a2 b2 a3 b3 ...        rows a, rows b; pass 1, 2, ...
  cell 1      a1 b1 a2 b2 a3 ...
```
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils
from tensorflow.python.ops import while_v2

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

  The source of `top_p` is Holtzman et al., arXiv:1904.09751. It applies after
  temperature and `top_k`.
  """

  temperature: float = 1.0  # Divides logits. 0: the most probable token.
  top_k: int = 0  # Among the k most probable only; 0: among all.
  top_p: float = 1.0  # Among the most probable that sum up to it.

  def __post_init__(self):
    if not (
      0.0 <= self.temperature < float('inf')
      and self.top_k >= 0
      and 0.0 < self.top_p <= 1.0
    ):
      raise ValueError(
        'temperature must be 0 (greedy) or more, top_k 0 (all) or more, and '
        f'top_p above 0 and at most 1; got {self}.'
      )


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
      the first takes ids, the last gives logits. See `transformer`.
    prompts: int32 [batch, length], length at most max_length; batch is static.
    prompt_lengths: int32 [batch], at least 1.
    max_length: How many tokens a row can have, its prompt included.
    seed: An int, or an int scalar tensor, for random tokens.
    end_id: An id after which nothing more is generated in a row.
    limit: An int32 scalar tensor: how many tokens rows have in the end, from
      the longest prompt's to max_length; None for max_length.
    num_micro_batches: M; None for one a cell, as far as rows go.

  Returns:
    `ids`, int32 [batch, max_length], followed by zeros; `lengths`, int32
    [batch], up to and with `end_id`, or the limit.
  """
  batch = int(prompts.shape[0])
  sizes = micro_batches.choose_sizes(
    batch, min(num_micro_batches or len(pipeline.cells), batch), None
  )
  if limit is None:
    limit = tf.constant(max_length)
  with tf.name_scope('generate'):
    cells = _Cells(pipeline, theta)
    rows = _Rows(cells, sizes, max_length, how, seed, end_id, limit)
    return rows.run(prompts, tf.cast(prompt_lengths, tf.int32))


class _Cells:
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
          'ExtendStep, which generation needs; see models.transformer.'
        )

  def zero_state(self, batch: Any, max_length: int) -> list[Any]:
    states = []
    for layer, _, device in self._layers:
      with on_device(device):
        states.append(layer.ZeroState(batch, max_length))
    return states

  def step(
    self, ids: tf.Tensor, states: list[Any], time: tf.Tensor
  ) -> tuple[tf.Tensor, list[Any]]:
    """Logits after ids [batch, new] at places `time` and on; new states."""
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
  if not isinstance(cell, FeatureExtractionLayer):
    yield cell, theta
    return
  for key, layer in cell.children.items():
    yield from _layers(layer, theta[key])


@dataclasses.dataclass(frozen=True)
class _Rows:
  """The rows that are generated, in micro-batches; fields as of `generate`."""

  cells: _Cells
  sizes: micro_batches.MicroBatchSizes
  max_length: int
  how: Sampling
  seed: Any
  end_id: int | None
  limit: tf.Tensor

  def run(self, prompts: tf.Tensor, given: tf.Tensor) -> py_utils.NestedMap:
    with on_device(self.cells.last_device):
      first = tf.reduce_min(given)
    random = self._random(first)
    rows = []
    for m, part in enumerate(self._split(prompts, given)):
      states = self.cells.zero_state(self.sizes.sizes[m], self.max_length)
      logits, states = self.cells.step(part.ids[:, :first], states, 0)
      rows.append(self._choose(part, logits, states, random[m], first))

    def goes_on(time: Any, done: tf.Tensor, _: Any) -> tf.Tensor:
      return tf.logical_and(time < self.limit - 1, tf.logical_not(done))

    def body(time: tf.Tensor, _: Any, rows: Sequence[Any]) -> Any:
      # Of the pass before the last, or all cells would wait for all rows. So
      # there is one pass more than needed.
      done = self._all_ended(rows, time)
      random = self._random(time + 1)
      after = []
      for m, row in enumerate(rows):
        logits, states = self.cells.step(row.token, row.states, time)
        after.append(self._choose(row, logits, states, random[m], time + 1))
      return time + 1, done, after

    # A loop of TensorFlow 1 keeps its variables on one device, and would send
    # each cell's state there and back in each pass.
    _, _, rows = while_v2.while_loop(
      goes_on, body, [first, tf.constant(False), rows], name='tokens'
    )
    with on_device(self.cells.last_device):
      results = [
        py_utils.NestedMap(ids=row.ids, lengths=row.lengths) for row in rows
      ]
      return micro_batches.merge(results, [0, 0])

  def _split(
    self, prompts: tf.Tensor, given: tf.Tensor
  ) -> list[py_utils.NestedMap]:
    with on_device(self.cells.last_device):
      room = self.max_length - tf.shape(prompts)[1]
      ids = tf.pad(tf.cast(prompts, tf.int32), [[0, 0], [0, room]])
      ids.set_shape([self.sizes.batch, self.max_length])
      behind = tf.range(self.max_length) >= given[:, tf.newaxis]
      rows = py_utils.NestedMap(
        ids=tf.where_v2(behind, _PADDING, ids),
        given=given,
        lengths=tf.fill([self.sizes.batch], self.limit),
      )
      return micro_batches.split(rows, [0, 0, 0], self.sizes)

  def _random(self, time: tf.Tensor) -> list[tf.Tensor]:
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
      token = token[:, tf.newaxis]
      return py_utils.NestedMap(
        row, ids=ids, lengths=lengths, states=states, token=token
      )

  def _all_ended(self, rows: Sequence[Any], time: tf.Tensor) -> tf.Tensor:
    if self.end_id is None:
      return tf.constant(False)
    with on_device(self.cells.last_device):
      lengths = tf.concat([row.lengths for row in rows], axis=0)
      return tf.reduce_all(lengths <= time)


def choose(logits: tf.Tensor, uniform: tf.Tensor, how: Sampling) -> tf.Tensor:
  """Chooses a token for each row, int32 [batch].

  `uniform` are float32 random numbers in [0, 1), [batch]. Of equally probable
  tokens lower ids come first.
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
