# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run in this process: trains, evaluates on held-out data, reports."""

import contextlib
import os
import sys
import time

import lingvo.compat as tf
from absl import logging
from lingvo.core import py_utils

from lingvo_gpipe import cluster
from lingvo_gpipe.training import (
  logdir,
  model_lookup,
  pipeline_params,
  pipeline_report,
  progress,
  run_observer,
  run_report,
  runner_manager,
  step_times,
)

FLAGS = tf.flags.FLAGS

LOG_NAME = 'log.txt'
_HELD_OUT = 'Test'


class _PerStep(run_observer.StepListener):
  """Remembers what the last mini-batch had, and M; None without a pipeline."""

  def __init__(self):
    self.counts = {}
    self.num_micro_batches = None

  def trainer_built(self, runner):
    for pipeline in pipeline_report.pipelines(runner.model):
      self.num_micro_batches = pipeline_report.num_micro_batches(pipeline)
      return

  def after_step(self, step, metrics):
    del step
    self.counts = progress.counts(metrics)


class _Stages:
  """Times the parts of the run: {name: seconds}."""

  def __init__(self, **seconds):
    self.seconds = dict(seconds)

  @contextlib.contextmanager
  def stage(self, name):
    started = time.monotonic()
    yield
    self.seconds[name] = time.monotonic() - started


def _command_line():
  python = os.path.relpath(sys.executable)
  if python.startswith('..'):
    python = sys.executable
  model = f' --model={FLAGS.model}' if FLAGS['model'].present else ''
  return f'{python} -m lingvo_gpipe.first_run{model}'


def _train(model, cfg, stages):
  """Trains.

  Returns:
    A tuple: the step times' summary, a `_PerStep`, the number of weights.
  """
  times = step_times.StepTimes(cfg.train.max_steps)
  bar = progress.Progress(
    sys.stdout,
    cfg.train.max_steps,
    note=lambda: 'timing one core' if times.on_one_core else '',
  )
  per_step = _PerStep()
  trial = run_observer.ObservingTrial([times, per_step, bar])
  manager = runner_manager.RunnerManager(model, trial)
  with stages.stage('graph'):
    runners = manager.CreateRunners(['trainer_client'], FLAGS.logdir)
  with stages.stage('training'):
    try:
      manager.StartRunners(runners)
    finally:
      times.close()
      bar.close()
  return times.summary(), per_step, runners[0].num_weights


def _evaluate(model, stages):
  """Evaluates the newest checkpoint; returns a `run_observer.Evaluation`."""
  trial = run_observer.ObservingTrial()
  manager = runner_manager.RunnerManager(model, trial)
  with stages.stage('evaluation'):
    (evaler,) = manager.CreateRunners([f'evaler_{_HELD_OUT}'], FLAGS.logdir)
    evaler.EvalLatestCheckpoint()
  return trial.evaluations[-1]


def train_evaluate_report(log, loading_seconds):
  """Trains the model that the flags name, evaluates it, prints a report.

  Args:
    log: The `RunLog`; it is moved into the log directory.
    loading_seconds: How long the imports took, for the report.

  Raises:
    UserError: if a flag, the model's name or the log directory is wrong.
  """
  model = model_lookup.find_model(FLAGS.model)
  FLAGS.logdir = logdir.prepare(FLAGS.logdir)
  with logdir.training(FLAGS.logdir, model):
    _train_evaluate_report(model, log, loading_seconds)


def _train_evaluate_report(model, log, loading_seconds):
  log.move_to(os.path.join(FLAGS.logdir, LOG_NAME))
  logging.use_absl_handler()  # Each line with its time and place.
  logging.set_verbosity(logging.INFO)
  py_utils.SetEagerMode(False)
  cluster.install()
  manager = runner_manager.RunnerManager(model, devices_flag='devices')
  manager.MaybeConfigRunLocally()
  cfg = manager.GetParamsForDataset('trainer_client', 'Train')

  stages = _Stages(loading=loading_seconds)
  print(
    f'Training {FLAGS.model} on {FLAGS.worker_split_size} CPU device(s); '
    f'log and checkpoints: {FLAGS.logdir}',
    flush=True,
  )
  print('Building the graph; the first step optimises it ...', flush=True)
  times, per_step, num_weights = _train(model, cfg, stages)
  print('Evaluating on held-out data ...', flush=True)
  evaluation = _evaluate(model, stages)
  run = run_report.Run(
    model=FLAGS.model,
    num_weights=num_weights,
    num_devices=FLAGS.worker_split_size,
    # As it runs; a model may also have a pipeline of its own kind.
    num_micro_batches=per_step.num_micro_batches
    or pipeline_params.find(cfg, 'num_micro_batches'),
    schedule=pipeline_params.find(cfg, 'schedule'),
    steps=evaluation.step,
    times=times,
    per_step=per_step.counts,
    evaluation=evaluation,
    logdir=FLAGS.logdir,
    log=log.path,
    stages=stages.seconds,
    command=_command_line(),
  )
  print('\n' + run_report.report(run))
