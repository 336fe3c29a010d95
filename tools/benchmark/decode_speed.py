# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times the generation of text by a Transformer in a pipeline.

The model's weights are random: speed does not depend on them. It is generated
greedily, with keys and values of earlier tokens remembered by each cell (with
one micro-batch, and with one a cell), and by whole passes over all tokens so
far. The most probable tokens must be the same.
"""

import timeit
from collections.abc import Callable
from typing import Any

import lingvo.compat as tf
import numpy as np
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe import cpu_devices, sequential_layer
from lingvo_gpipe.models import generation, transformer
from tools.benchmark.cases import Case

_SEED = 1
# Generates all ids, [rows, prompt + tokens].
_Run = Callable[[], np.ndarray]


def measure(
  case: Case, prompt: int, runs: int
) -> dict[str, tuple[float, np.ndarray]]:
  """Each way's shortest time in seconds, after a run, and the ids it gave.

  The case's examples are `prompt` tokens with what is generated.
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
    ids = np.random.RandomState(_SEED).randint(
      case.num_ids, size=[case.batch, prompt], dtype=np.int32
    )
    config = cpu_devices.session_config(case.num_cells)
    with tf.tf1.Session(config=config) as session:
      ways = {
        f'cached, M = {count}': _cached(layer, case, ids, session, count)
        for count in sorted({1, case.num_micro_batches})
      }
      ways['whole passes'] = _whole(layer, case, ids, session)
      session.run(tf.global_variables_initializer())
      return {name: _time(run, runs) for name, run in ways.items()}


def _time(run: _Run, runs: int) -> tuple[float, np.ndarray]:
  ids = run()
  return min(timeit.repeat(run, number=1, repeat=runs)), ids


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


def _cached(
  layer: Any, case: Case, ids: np.ndarray, session: Any, count: int
) -> _Run:
  # Fed, so that nothing is computed ahead.
  prompts = tf.placeholder(tf.int32, ids.shape)
  result = generation.generate(
    layer,
    layer.theta,
    prompts,
    tf.fill([case.batch], ids.shape[1]),
    case.example_size,
    generation.Sampling(temperature=0.0),
    num_micro_batches=count,
  )
  return lambda: session.run(result.ids, {prompts: ids})


def _whole(layer: Any, case: Case, ids: np.ndarray, session: Any) -> _Run:
  so_far = tf.placeholder(tf.int32, [case.batch, None])
  logits = layer.FProp(layer.theta, so_far)
  token = tf.argmax(logits[:, -1], axis=-1, output_type=tf.int32)

  def run() -> np.ndarray:
    row = ids
    while row.shape[1] < case.example_size:
      new = session.run(token, {so_far: row})
      row = np.concatenate([row, new[:, np.newaxis]], axis=1)
    return row

  return run
