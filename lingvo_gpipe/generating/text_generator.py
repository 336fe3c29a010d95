# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Continues texts with a trained language model, in a session of its own.

A model has seen rows of some length only. A text that gets longer is continued
from its later half, as if that were the beginning of a row:

```
  window of 8 tokens       p p p p 1 2 3 4
                                   1 2 3 4 5 6 7 8
                                           5 6 7 8 9 ...
```
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Sequence
from typing import Any

import lingvo.compat as tf
import numpy as np
from lingvo.core import cluster_factory

from lingvo_gpipe import cpu_devices
from lingvo_gpipe.inputs import tokenizers
from lingvo_gpipe.models import generation
from lingvo_gpipe.training import checkpoints

# Fetches ids and lengths, [rows, window] and [rows], for prompts and their
# lengths, a limit and a seed.
_Pass = Callable[[np.ndarray, np.ndarray, int, int], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Continuation:
  """What follows a prompt.

  Attributes:
    num_tokens: Its number of tokens, that of the end included.
    ended: Whether the model ended it; else it is cut.
  """

  text: str
  num_tokens: int
  ended: bool


class TextGenerator:
  """A model with the weights of a checkpoint."""

  def __init__(
    self,
    params: Any,
    checkpoint: str,
    rows: int,
    how: generation.Sampling,
    window: int = 0,
  ):
    """Builds the model and restores its weights.

    Args:
      params: Params of a SingleTaskModel of a LanguageModel, with the cluster
        to run on.
      checkpoint: The checkpoint's path, without a suffix.
      rows: How many continuations are made at once.
      window: How many tokens the model sees at once; 0: as many as in the rows
        that it was trained on.

    Raises:
      UserError: the checkpoint is of another model.
      DataLossError, NotFoundError, OutOfRangeError: it is damaged.
    """
    self._rows = rows
    params.cluster.do_eval = True
    cluster = cluster_factory.Cluster(params.cluster)
    with tf.Graph().as_default(), cluster, tf.device(cluster.GetPlacer()):
      model = params.Instantiate()
      task = model.GetTask()
      self.tokenizer = task.input.tokenizer
      self.window = window or task.input.params.row_length
      self._feeds = [
        tf.placeholder(tf.int32, [rows, None]),
        tf.placeholder(tf.int32, [rows]),
        tf.placeholder(tf.int32, []),
        tf.placeholder(tf.int32, []),
      ]
      prompts, lengths, limit, seed = self._feeds
      self._result = generation.generate(
        task.pipeline,
        task.theta.pipeline,
        prompts,
        lengths,
        self.window,
        how,
        seed=seed,
        end_id=tokenizers.END,
        limit=limit,
      )
      checkpointer = checkpoints.TrainingCheckpointer(
        os.path.dirname(checkpoint), model
      )
      self._session = tf.tf1.Session(config=_session_config(cluster))
      checkpointer.RestoreFromPath(self._session, checkpoint)

  def continue_text(
    self, prompt: str, num_tokens: int, seed: int
  ) -> list[Continuation]:
    """Continues a prompt, once a row.

    Args:
      prompt: The beginning of a document; may be empty.
      num_tokens: How many tokens to generate at most.
      seed: Of random numbers. Rows differ.
    """
    ids = [tokenizers.BEGIN, *map(int, self.tokenizer.encode(prompt))]
    rows = extend(
      [ids] * self._rows, num_tokens, self.window, seed, self._run_pass
    )
    return [self._continuation(row[len(ids) :]) for row in rows]

  def _run_pass(self, *values: Any) -> tuple[Any, Any]:
    result = self._session.run(
      self._result, dict(zip(self._feeds, values, strict=True))
    )
    return result.ids, result.lengths

  def _continuation(self, ids: Sequence[int]) -> Continuation:
    return Continuation(
      text=self.tokenizer.decode(ids),
      num_tokens=len(ids),
      ended=bool(ids) and ids[-1] == tokenizers.END,
    )


def extend(
  rows: Sequence[Sequence[int]],
  num_tokens: int,
  window: int,
  seed: int,
  run_pass: _Pass,
) -> list[list[int]]:
  """Extends rows of equal length, window by window.

  Args:
    rows: Ids of the prompts, at least one in each.
    num_tokens: How many to add to each row, unless it ends before.
    window: How many ids a pass can have.
    seed: Each pass gets one of its own, made of this.
    run_pass: Continues prompts, [rows, any length], of given lengths, up to a
      limit; returns ids and lengths as `generation.generate` does.

  Returns:
    The rows with what follows, the end mark included.
  """
  rows = [list(row) for row in rows]
  final = len(rows[0]) + num_tokens
  ended = [False] * len(rows)
  for number in itertools.count():
    size = max(map(len, rows))
    if all(ended) or size >= final:
      break
    seen = size if size < window else max(window // 2, 1)
    # A row that has ended goes along, for the shape.
    prompts = np.int32(
      [(row + [tokenizers.END] * (size - len(row)))[-seen:] for row in rows]
    )
    given = np.full([len(rows)], seen, np.int32)
    limit = min(window, seen + final - size)
    # Each pass has a seed of 31 bits of its own.
    random = np.random.RandomState([seed & 0xFFFFFFFF, number])
    ids, lengths = run_pass(prompts, given, limit, int(random.randint(2**31)))
    for i, row in enumerate(rows):
      if not ended[i]:
        row += map(int, ids[i][seen : lengths[i]])
        ended[i] = row[-1] == tokenizers.END
  return rows


def _session_config(cluster: Any) -> Any:
  spec = cluster.job_spec
  if spec.gpus_per_replica:
    return tf.tf1.ConfigProto(allow_soft_placement=True)
  return cpu_devices.session_config(spec.cpus_per_replica)
