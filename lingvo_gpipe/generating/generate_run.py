# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run of the command `lingvo_gpipe.generate`."""

import os
import time

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe import cluster
from lingvo_gpipe.generating import text_generator
from lingvo_gpipe.models import generation, language_model
from lingvo_gpipe.training import (
  checkpoints,
  logdir,
  model_lookup,
  runner_manager,
  user_error,
)

FLAGS = tf.flags.FLAGS

_DATASET = 'Test'


def generate():
  """Prints what follows the flags' prompt; UserError if they are wrong."""
  how = _sampling()
  checkpoint = _checkpoint()
  params = _params()
  print('Building the graph and restoring weights ...', flush=True)
  generator = text_generator.TextGenerator(
    params, checkpoint, FLAGS.samples, how, FLAGS.window
  )
  started = time.perf_counter()
  found = generator.continue_text(FLAGS.prompt, FLAGS.tokens, FLAGS.seed)
  seconds = time.perf_counter() - started
  for number, continuation in enumerate(found):
    if len(found) > 1:
      print(f'\n--- {number + 1}')
    end = '' if continuation.ended else ' ...'
    print(f'\n{FLAGS.prompt}{continuation.text}{end}')
  total = sum(continuation.num_tokens for continuation in found)
  print(
    f'\n{total} tokens in {seconds:.2f} s ({total / seconds:.0f} tokens/s, '
    f'the first pass included), checkpoint {checkpoint}'
  )


def _sampling():
  try:
    return generation.Sampling(FLAGS.temperature, FLAGS.top_k, FLAGS.top_p)
  except ValueError as error:
    raise user_error.UserError(f'--{error}') from error


def _checkpoint():
  """The checkpoint's path."""
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


def _params():
  """Params of the model, with the cluster that the flags describe."""
  model = model_lookup.find_model(FLAGS.model)
  if FLAGS.logdir:
    logdir.check_model(os.path.expanduser(FLAGS.logdir), model)
  py_utils.SetEagerMode(False)
  cluster.install()
  manager = runner_manager.RunnerManager(model, devices_flag='devices')
  manager.MaybeConfigRunLocally()
  params = manager.GetParamsForDataset('decoder', _DATASET)
  if not issubclass(params.task.cls, language_model.LanguageModel):
    raise user_error.UserError(
      f'--model={FLAGS.model}: its task is {params.task.cls.__name__}, which '
      'generates no text; use a model of the task LanguageModel.'
    )
  return params
