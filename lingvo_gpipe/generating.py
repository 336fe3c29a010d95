# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text from a trained model: what the command `lingvo_gpipe.generate` does."""

import itertools
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import lingvo.compat as tf
import numpy as np
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe import cluster, cpu_devices
from lingvo_gpipe.inputs import tokenizers
from lingvo_gpipe.models import generation, language_model
from lingvo_gpipe.training import (
  checkpoints,
  logdir,
  model_lookup,
  runner_manager,
  user_error,
)

FLAGS = tf.flags.FLAGS

# Fetches ids and lengths, [rows, window] and [rows], for prompts and their
# lengths, a limit and a seed.
_Pass = Callable[[np.ndarray, np.ndarray, int, int], tuple[Any, Any]]


def generate() -> None:
  """Prints what follows the flags' prompt; UserError if they are wrong."""
  try:
    how = generation.Sampling(FLAGS.temperature, FLAGS.top_k, FLAGS.top_p)
  except ValueError as error:
    raise user_error.UserError(str(error)) from error
  checkpoint = _checkpoint()
  params = _params()
  print('Building the graph and restoring weights ...', flush=True)
  generator = TextGenerator(params, checkpoint, FLAGS.samples, how)
  started = time.perf_counter()
  rows = generator.continue_text(FLAGS.prompt, FLAGS.tokens, FLAGS.seed)
  seconds = time.perf_counter() - started
  for number, ids in enumerate(rows):
    if len(rows) > 1:
      print(f'\n--- {number + 1}')
    end = '' if ids[-1] == tokenizers.END else ' ...'
    print(f'\n{FLAGS.prompt}{generator.tokenizer.decode(ids)}{end}')
  total = sum(map(len, rows))
  print(
    f'\n{total} tokens in {seconds:.2f} s ({total / seconds:.0f} tokens/s, '
    f'the first pass included), checkpoint {checkpoint}'
  )


def _checkpoint() -> str:
  if FLAGS.checkpoint:
    path = FLAGS.checkpoint.removesuffix('.index')
    if not tf.io.gfile.exists(path + '.index'):
      raise user_error.UserError(
        f'--checkpoint={FLAGS.checkpoint}: there is no file {path}.index. Give '
        'a path such as LOGDIR/train/ckpt-00001000.'
      )
    return path
  if not FLAGS.logdir:
    raise user_error.UserError(
      '--logdir: give the log directory of a training, or a --checkpoint.'
    )
  train_dir = os.path.join(os.path.expanduser(FLAGS.logdir), 'train')
  paths = checkpoints.newest_first(train_dir)
  if not paths:
    raise user_error.UserError(
      f'--logdir={FLAGS.logdir}: there is no checkpoint in {train_dir}. Train '
      'first: python -m lingvo_gpipe.first_run --model=... --logdir=...'
    )
  return paths[0]


def _params() -> Any:
  model = model_lookup.find_model(FLAGS.model)
  if FLAGS.logdir:
    logdir.check_model(os.path.expanduser(FLAGS.logdir), model)
  py_utils.SetEagerMode(False)
  cluster.install()
  manager = runner_manager.RunnerManager(model, devices_flag='devices')
  manager.MaybeConfigRunLocally()
  params = manager.GetParamsForDataset('decoder', 'Test')
  if not issubclass(params.task.cls, language_model.LanguageModel):
    raise user_error.UserError(
      f'--model={FLAGS.model}: its task is {params.task.cls.__name__}, which '
      'generates no text; use a model of the task LanguageModel.'
    )
  return params


class TextGenerator:
  """A language model with the weights of a checkpoint, in its own session."""

  def __init__(
    self, params: Any, checkpoint: str, rows: int, how: generation.Sampling
  ):
    """Continues `rows` rows. UserError if the checkpoint is another model's."""
    self._rows = rows
    params.cluster.do_eval = True
    devices = cluster_factory.Cluster(params.cluster)
    with tf.Graph().as_default(), devices, tf.device(devices.GetPlacer()):
      model = params.Instantiate()
      task = model.GetTask()
      self.tokenizer = task.input.tokenizer
      self._window = task.input.params.row_length
      shapes = ([rows, None], [rows], (), ())
      self._feeds = [tf.placeholder(tf.int32, shape) for shape in shapes]
      prompts, lengths, limit, seed = self._feeds
      self._result = generation.generate(
        task.pipeline,
        task.theta.pipeline,
        prompts,
        lengths,
        self._window,
        how,
        seed=seed,
        end_id=tokenizers.END,
        limit=limit,
      )
      checkpointer = checkpoints.TrainingCheckpointer(
        os.path.dirname(checkpoint), model
      )
      self._session = tf.tf1.Session(config=_session_config(devices.job_spec))
      checkpointer.RestoreFromPath(self._session, checkpoint)

  def continue_text(
    self, prompt: str, num_tokens: int, seed: int
  ) -> list[list[int]]:
    """What follows a prompt, for each row: `num_tokens` ids or to the end."""
    ids = [tokenizers.BEGIN, *map(int, self.tokenizer.encode(prompt))]
    rows = extend(
      [ids] * self._rows, num_tokens, self._window, seed, self._run_pass
    )
    return [row[len(ids) :] for row in rows]

  def _run_pass(self, *values: Any) -> tuple[Any, Any]:
    result = self._session.run(
      self._result, dict(zip(self._feeds, values, strict=True))
    )
    return result.ids, result.lengths


def extend(
  rows: Sequence[Sequence[int]],
  num_tokens: int,
  window: int,
  seed: int,
  run_pass: _Pass,
) -> list[list[int]]:
  """Extends rows of equal length by as many ids, or until they end.

  A model has seen rows of some length only, here 8. A text that gets longer is
  continued from its later half, as if that were the beginning of a row:

  ```
    p p p p 1 2 3 4
            1 2 3 4 5 6 7 8
                    5 6 7 8 9 ...
  ```

  `run_pass` has room for `window` ids.
  """
  results = [list(row) for row in rows]
  final = len(rows[0]) + num_tokens
  ended = [False] * len(rows)
  for number in itertools.count():
    size = max(map(len, results))
    if all(ended) or size >= final:
      break
    seen = size if size < window else max(window // 2, 1)
    # A row that has ended goes along, for the shape.
    padded = [row + [tokenizers.END] * (size - len(row)) for row in results]
    prompts = np.array([row[-seen:] for row in padded], np.int32)
    given = np.full([len(rows)], seen, np.int32)
    limit = min(window, seen + final - size)
    # Each pass has a seed of 31 bits of its own.
    random = np.random.RandomState([seed & 0xFFFFFFFF, number])
    ids, lengths = run_pass(prompts, given, limit, int(random.randint(2**31)))
    for i, row in enumerate(results):
      if not ended[i]:
        row += map(int, ids[i][seen : lengths[i]])
        ended[i] = row[-1] == tokenizers.END
  return results


def _session_config(spec: Any) -> Any:
  if spec.gpus_per_replica:
    return tf.tf1.ConfigProto(allow_soft_placement=True)
  return cpu_devices.session_config(spec.cpus_per_replica)
