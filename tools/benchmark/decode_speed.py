# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times generation, with what attention remembers and without.

```
  cached    each token passes through the cells once, see models.generation
  whole     for each token, all tokens so far pass through the pipeline
```

Both choose the most probable token, so both must give the same text.
"""

import dataclasses
import time
from collections.abc import Callable

import lingvo.compat as tf
import numpy as np
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe import cpu_devices, sequential_layer
from lingvo_gpipe.models import generation, sampling, transformer

_SEED = 1


@dataclasses.dataclass(frozen=True)
class Case:
  """What is generated, and by what.

  Attributes:
    num_layers: L of the Transformer.
    model_dim: D; its feed-forward networks are four times as wide.
    vocab_size: Number of different ids.
    rows: How many texts at once.
    prompt: Tokens of each prompt.
    tokens: Tokens to generate for each.
    num_cells: K, each on a CPU device of this process.
  """

  num_layers: int
  model_dim: int
  vocab_size: int
  rows: int
  prompt: int
  tokens: int
  num_cells: int


@dataclasses.dataclass(frozen=True)
class DecodeSpeed:
  """What one way of generating took.

  Attributes:
    name: The way.
    seconds: The shortest time of all runs but the first.
    tokens_per_second: Of all rows together.
    ids: What it gave, [rows, prompt + tokens].
  """

  name: str
  seconds: float
  tokens_per_second: float
  ids: np.ndarray


def measure(case: Case, runs: int) -> list[DecodeSpeed]:
  """Times each way of generating `runs` times, after a run not counted."""
  cluster = cluster_factory.ForTestingWorker(
    mode='sync',
    job='trainer_client',
    cpus=case.num_cells,
    split_size=case.num_cells,
    do_eval=True,
  )
  with cluster, tf.Graph().as_default():
    tf.random.set_seed(_SEED)
    py_utils.GetOrCreateGlobalStepVar()
    layer = _params(case).Instantiate()
    config = cpu_devices.session_config(case.num_cells)
    with tf.tf1.Session(config=config) as session:
      ways = {
        f'cached, M = {count}': _cached(layer, case, session, count)
        for count in sorted({1, min(case.num_cells, case.rows)})
      }
      ways['whole passes'] = _whole(layer, case, session)
      session.run(tf.global_variables_initializer())
      return [_time(name, run, case, runs) for name, run in ways.items()]


def _time(
  name: str, run: Callable[[], np.ndarray], case: Case, runs: int
) -> DecodeSpeed:
  ids = run()
  times = []
  for _ in range(runs):
    started = time.perf_counter()
    run()
    times.append(time.perf_counter() - started)
  seconds = min(times)
  return DecodeSpeed(name, seconds, case.rows * case.tokens / seconds, ids)


def _params(case: Case):
  net = transformer.TransformerParams().Set(
    vocab_size=case.vocab_size,
    num_layers=case.num_layers,
    model_dim=case.model_dim,
    hidden_dim=4 * case.model_dim,
    num_heads=max(1, case.model_dim // 64),
    packed=False,
  )
  return sequential_layer.GPipeSequentialLayer.Params().Set(
    name='net',
    sub=transformer.TransformerLayers(net),
    num_partitions=case.num_cells,
    num_micro_batches=min(case.num_cells, case.rows),
    input_shapes=f'int32[{case.rows},{case.prompt + case.tokens}]',
  )


def _prompts(case: Case) -> np.ndarray:
  random = np.random.RandomState(_SEED)
  shape = [case.rows, case.prompt]
  return random.randint(case.vocab_size, size=shape).astype(np.int32)


def _cached(layer, case: Case, session, count: int) -> Callable[[], np.ndarray]:
  # Fed, so that nothing is computed ahead.
  prompts = tf.placeholder(tf.int32, [case.rows, case.prompt])
  result = generation.generate(
    layer,
    layer.theta,
    prompts,
    tf.fill([case.rows], case.prompt),
    case.prompt + case.tokens,
    sampling.Sampling(temperature=0.0),
    num_micro_batches=count,
  )
  return lambda: session.run(result.ids, {prompts: _prompts(case)})


def _whole(layer, case: Case, session) -> Callable[[], np.ndarray]:
  so_far = tf.placeholder(tf.int32, [case.rows, None])
  logits = layer.FProp(layer.theta, so_far)
  token = tf.argmax(logits[:, -1], axis=-1, output_type=tf.int32)

  def run() -> np.ndarray:
    ids = _prompts(case)
    for _ in range(case.tokens):
      new = session.run(token, {so_far: ids})
      ids = np.concatenate([ids, new[:, np.newaxis]], axis=1)
    return ids

  return run
