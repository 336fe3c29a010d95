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
from typing import Any

import lingvo.compat as tf
import numpy as np
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe import cpu_devices, sequential_layer
from lingvo_gpipe.models import generation, sampling, transformer
from tools.benchmark.cases import Case

_SEED = 1


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


def measure(case: Case, prompt: int, runs: int) -> list[DecodeSpeed]:
  """Times each way of generating.

  Args:
    case: The Transformer; its examples are prompts with what is generated.
    prompt: Tokens of each prompt.
    runs: How often each way is timed, after a run not counted.
  """
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
        f'cached, M = {count}': _cached(layer, case, prompt, session, count)
        for count in sorted({1, case.num_micro_batches})
      }
      ways['whole passes'] = _whole(layer, case, prompt, session)
      session.run(tf.global_variables_initializer())
      tokens = case.batch * (case.example_size - prompt)
      return [_time(name, run, tokens, runs) for name, run in ways.items()]


def _time(
  name: str, run: Callable[[], np.ndarray], tokens: int, runs: int
) -> DecodeSpeed:
  ids = run()
  times = []
  for _ in range(runs):
    started = time.perf_counter()
    run()
    times.append(time.perf_counter() - started)
  seconds = min(times)
  return DecodeSpeed(name, seconds, tokens / seconds, ids)


def _params(case: Case) -> Any:
  net = transformer.TransformerParams().Set(
    vocab_size=case.num_ids,
    num_layers=case.num_layers,
    model_dim=case.dim,
    hidden_dim=4 * case.dim,
    num_heads=max(1, case.dim // 64),
    packed=False,
  )
  return sequential_layer.GPipeSequentialLayer.Params().Set(
    name='net',
    sub=transformer.TransformerLayers(net),
    num_partitions=case.num_cells,
    num_micro_batches=case.num_micro_batches,
    input_shapes=f'int32[{case.batch},{case.example_size}]',
  )


def _prompts(case: Case, prompt: int) -> np.ndarray:
  random = np.random.RandomState(_SEED)
  ids = random.randint(case.num_ids, size=[case.batch, prompt])
  return ids.astype(np.int32)


def _cached(
  layer: Any, case: Case, prompt: int, session: Any, count: int
) -> Callable[[], np.ndarray]:
  # Fed, so that nothing is computed ahead.
  prompts = tf.placeholder(tf.int32, [case.batch, prompt])
  result = generation.generate(
    layer,
    layer.theta,
    prompts,
    tf.fill([case.batch], prompt),
    case.example_size,
    sampling.Sampling(temperature=0.0),
    num_micro_batches=count,
  )
  return lambda: session.run(result.ids, {prompts: _prompts(case, prompt)})


def _whole(
  layer: Any, case: Case, prompt: int, session: Any
) -> Callable[[], np.ndarray]:
  so_far = tf.placeholder(tf.int32, [case.batch, None])
  logits = layer.FProp(layer.theta, so_far)
  token = tf.argmax(logits[:, -1], axis=-1, output_type=tf.int32)

  def run() -> np.ndarray:
    ids = _prompts(case, prompt)
    while ids.shape[1] < case.example_size:
      new = session.run(token, {so_far: ids})
      ids = np.concatenate([ids, new[:, np.newaxis]], axis=1)
    return ids

  return run
