# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the trainer does between its flags and its exit status."""

import contextlib
import os
import sys

import lingvo.compat as tf
from absl import logging
from lingvo import datasets, model_registry
from lingvo.core import (
  base_model_params,
  py_utils,
  tpu_embedding_layers_v2,
  tpu_embedding_manager,
)

from lingvo_gpipe import cluster
from lingvo_gpipe.training import (
  listeners,
  logdir,
  model_lookup,
  model_pipelines,
  progress,
  runner_manager,
  stage_times,
  summaries,
  trainer_flags,
  user_error,
)

FLAGS = tf.flags.FLAGS


@contextlib.contextmanager
def prepared(log):
  """Inside, the flags' log directory may be used, and Lingvo is set up.

  UserError if the flags for model, dataset or log directory are wrong.
  """
  model = model_lookup.find_model(FLAGS.model)
  _check_datasets(model, FLAGS.job)
  FLAGS.logdir = logdir.prepare(FLAGS.logdir)
  with _claimed_logdir(model):
    name = 'log.txt'
    if FLAGS.job and not FLAGS.run_locally:  # Processes share the directory.
      name = f'log_{FLAGS.job.replace(",", "_")}_{FLAGS.task}.txt'
    log.move_to(os.path.join(FLAGS.logdir, name))
    logging.use_absl_handler()  # Each line with its time and place.
    _prepare_lingvo()
    yield model


def _check_datasets(model, jobs):
  params = model_registry.GetClass(model)()
  for dataset in filter(None, map(trainer_flags.dataset_of, jobs.split(','))):
    try:
      params.GetDatasetParams(dataset)
    except base_model_params.DatasetError as error:
      names = datasets.GetDatasets(params)
      raise user_error.unknown(
        'job', jobs, 'dataset', dataset, names
      ) from error


def _prepare_lingvo():
  """What Lingvo's trainer does between the parsing of flags and its runners."""
  if FLAGS.disable_tf2:
    tf.disable_v2_behavior()
  py_utils.SetEagerMode(FLAGS.use_eager)
  tf.config.run_functions_eagerly(FLAGS.run_functions_eagerly)
  if FLAGS.enable_tf_data_debug_mode:
    tf.data.experimental.enable_debug_mode()
  tpu_embedding_layers_v2.TPU_EMBEDDING_MANAGER = (
    tpu_embedding_manager.TPUEmbeddingManager()
  )
  cluster.install()


def _claimed_logdir(model):
  in_trainer = (
    FLAGS.checkpoint_in_trainer_cpu or FLAGS.checkpoint_in_trainer_tpu
  )
  writes = any(
    (job == 'controller' and not in_trainer)
    or 'executor' in job
    or (job.startswith('trainer') and (FLAGS.run_locally or in_trainer))
    for job in (FLAGS.job or 'executor').split(',')
  )
  if writes and FLAGS.task == 0 and FLAGS.mode in ('sync', 'async'):
    return logdir.training(FLAGS.logdir, model)
  logdir.check_model(FLAGS.logdir, model)
  return contextlib.nullcontext()


def run(log, loading_seconds, more_listeners):
  """Runs the jobs that the flags ask for; UserError if they are wrong.

  `more_listeners` returns further listeners, when the log directory is known.
  """
  stages = stage_times.StageListener(loading_seconds)
  with prepared(log) as model:
    trial = listeners.ObservingTrial(
      [stages], lambda text: print(f'{FLAGS.job}, {text}', flush=True)
    )
    manager = runner_manager.RunnerManager(model, trial)
    shown = progress.Progress(sys.stdout, lambda: manager.max_train_steps)
    trial.listeners += [
      summaries.RunSummaries(),
      model_pipelines.PipelineReport(),
      shown,
      *more_listeners(),
    ]
    try:
      manager.Start()
    finally:
      shown.close()
    times = stages.times()
    if times is not None:
      logging.info('%s', times.to_text())
