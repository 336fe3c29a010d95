# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the trainer does between its flags and its exit status."""

import contextlib
import os
import sys

import lingvo.compat as tf
from absl import logging
from lingvo.core import (
  py_utils,
  tpu_embedding_layers_v2,
  tpu_embedding_manager,
)

from lingvo_gpipe import cluster
from lingvo_gpipe.tracing import step_tracer
from lingvo_gpipe.training import (
  jobs,
  logdir,
  model_lookup,
  pipeline_report,
  progress,
  run_observer,
  run_summaries,
  runner_manager,
  stage_listener,
  training_run,
)

FLAGS = tf.flags.FLAGS

# Lingvo's flags that --help lists beside ours.
KEY_FLAGS = (
  'model',
  'logdir',
  'mode',
  'on_nan_loss',
  'job',
  'task',
  'run_locally',
  'worker_split_size',
  'cluster_spec',
)


def _log_name():
  """The log's file in the log directory; processes that share it differ."""
  if FLAGS.run_locally or not FLAGS.job:
    return training_run.LOG_NAME
  return f'log_{FLAGS.job.replace(",", "_")}_{FLAGS.task}.txt'


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


class _ProgressOfTraining(run_observer.StepListener):
  """The progress display, made at the first step: evalers have none."""

  def __init__(self, manager):
    self._manager = manager
    self._progress = None

  def before_step(self, step):
    if self._progress is None:
      self._progress = progress.Progress(
        sys.stdout, self._manager.max_train_steps, metric_names=None
      )
    self._progress.before_step(step)

  def after_step(self, step, metrics):
    self._progress.after_step(step, metrics)

  def close(self):
    if self._progress is not None:
      self._progress.close()


class _PrintingTrial(run_observer.ObservingTrial):
  """Prints the evaluations as they come."""

  def ReportEvalMeasure(self, global_step, metrics_dict, checkpoint_path):
    stop = super().ReportEvalMeasure(global_step, metrics_dict, checkpoint_path)
    evaluation = self.evaluations[-1]
    metrics = '  '.join(
      f'{name} {value:.4g}'
      for name, value in sorted(evaluation.metrics.items())
      if name != 'num_samples_in_batch'
    )
    print(
      f'{FLAGS.job}, step {evaluation.step}, {evaluation.num_examples} '
      f'examples: {metrics}',
      flush=True,
    )
    return stop


def _claimed_logdir(model):
  """A context: the log directory is this process's, if it writes checkpoints.

  Raises:
    UserError: if another process has it, or it is of another model.
  """
  jobs = set(FLAGS.job.split(',')) - {''}
  checkpoints = (
    FLAGS.checkpoint_in_trainer_cpu or FLAGS.checkpoint_in_trainer_tpu
  )
  writes = not jobs or any(
    (job == 'controller' and not checkpoints)
    or 'executor' in job
    or (job.startswith('trainer') and (FLAGS.run_locally or checkpoints))
    for job in jobs
  )
  if writes and FLAGS.task == 0 and FLAGS.mode in ('sync', 'async'):
    return logdir.training(FLAGS.logdir, model)
  logdir.check_model(FLAGS.logdir, model)
  return contextlib.nullcontext()


def run(log, loading_seconds):
  """Runs the jobs that the flags ask for.

  Args:
    log: The `RunLog`; it is moved into the log directory.
    loading_seconds: How long the imports took, for a line in the log.

  Raises:
    UserError: if a flag, the model's name or the log directory is wrong.
  """
  stages = stage_listener.StageListener(loading_seconds)
  model = model_lookup.find_model(FLAGS.model)
  jobs.check_datasets(model, FLAGS.job)
  FLAGS.logdir = logdir.prepare(FLAGS.logdir)
  with _claimed_logdir(model):
    _run(model, log, stages)


def _run(model, log, stages):
  log.move_to(os.path.join(FLAGS.logdir, _log_name()))
  logging.use_absl_handler()
  _prepare_lingvo()
  trial = _PrintingTrial([stages])
  manager = runner_manager.RunnerManager(model, trial)
  shown = _ProgressOfTraining(manager)
  trial.add_listener(run_summaries.RunSummaries())
  trial.add_listener(pipeline_report.PipelineReport(sys.stdout))
  trial.add_listener(shown)
  tracer = step_tracer.from_flags(lambda text: print(text, flush=True))
  if tracer is not None:
    trial.add_listener(tracer)
  try:
    manager.Start()
  finally:
    shown.close()
  times = stages.times()
  if times is not None:
    logging.info('%s', times.to_text())
