# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run in this process: trains, evaluates on held-out data, reports."""

import os
import sys

import lingvo.compat as tf
import tqdm
from absl import logging

from lingvo_gpipe.training import (
  efficiency,
  listeners,
  model_pipelines,
  progress,
  runner_manager,
  stage_times,
  trainer_run,
)

FLAGS = tf.flags.FLAGS

_HELD_OUT = 'Test'


def train_evaluate_report(log, loading_seconds, more_listeners):
  stages = stage_times.StageListener(loading_seconds)
  with trainer_run.prepared(log) as model:
    logging.set_verbosity(logging.INFO)
    trial = listeners.ObservingTrial([stages])
    manager = runner_manager.RunnerManager(model, trial, 'devices')
    manager.MaybeConfigRunLocally()
    print(
      f'Training {FLAGS.model} on {FLAGS.worker_split_size} CPU device(s); log '
      f'and checkpoints: {FLAGS.logdir}\n'
      'Building the graph; the first step optimises it ...',
      flush=True,
    )
    cfg = manager.GetParamsForDataset('trainer_client', 'Train')
    steps = efficiency.StepTimes(cfg.train.max_steps)
    bar = progress.Progress(sys.stdout, lambda: cfg.train.max_steps)
    trial.listeners += [steps, bar, *more_listeners()]
    (trainer,) = manager.CreateRunners(['trainer_client'], FLAGS.logdir)
    try:
      manager.StartRunners([trainer])
    finally:
      steps.close()
      bar.close()
    times = stages.times()
    print('Evaluating on held-out data ...', flush=True)
    (evaler,) = manager.CreateRunners([f'evaler_{_HELD_OUT}'], FLAGS.logdir)
    evaler.EvalLatestCheckpoint()
    print(
      '\n' + _report(log, trainer, cfg, steps, times, trial.evaluations[-1])
    )


def _report(log, trainer, cfg, steps, times, evaluation):
  k, m = FLAGS.worker_split_size, model_pipelines.find(cfg, 'num_micro_batches')
  # A model may also have a pipeline of its own kind.
  if built := next(model_pipelines.pipelines(trainer.model), None):
    m = model_pipelines.num_micro_batches(built)
  pipeline = f'K = {k} devices'
  if m:
    schedule = model_pipelines.find(cfg, 'schedule')
    pipeline += f', M = {m} micro-batches, schedule {schedule}'
  step, size = evaluation.step, f'{trainer.num_weights:,} weights'
  rows = [
    ('Model', f'{FLAGS.model}, {size}, {step} steps'),
    ('Accuracy', accuracy(evaluation)),
    ('Pipeline', pipeline),
  ]
  if times and times.more_steps:
    duration = tqdm.tqdm.format_interval
    seconds = steps.median() or times.median_step
    rows += [
      ('Step time', f'{seconds * 1e3:.1f} ms, the median'),
      ('Efficiency', steps.line(k, m)),
      (
        'Time',
        f'{duration(times.total)}: loading {duration(times.loading)}, graph '
        f'{duration(times.graph)}, first step {duration(times.first_step)}',
      ),
    ]
  rows += [('Log', log.path), ('Checkpoint', evaluation.checkpoint)]
  python = min(os.path.relpath(sys.executable), sys.executable, key=len)
  model = f' --model={FLAGS.model}' if FLAGS['model'].present else ''
  command = f'{python} -m lingvo_gpipe.first_run{model}'
  rows += [
    ('Next', f'{command} --logdir={FLAGS.logdir} --max_steps={2 * step}'),
    ('', '  continues from the checkpoint'),
    ('', f'{command} --devices=1'),
    ('', '  the same model and the same numbers on one device'),
    ('', f'{command} --schedule=gpipe   (or 1f1b)'),
    ('', '  another order of tasks: the same numbers, another memory use'),
    ('', f'tensorboard --logdir={FLAGS.logdir}'),
    ('', '  curves'),
  ]
  return '\n'.join(f'{title:<12}{line}' for title, line in rows)


def accuracy(evaluation):
  metrics = evaluation.metrics
  said = f'loss {metrics["loss"]:.4g}'
  if 'accuracy' in metrics:
    said = f'{metrics["accuracy"]:.2%}'
  if 'bits_per_byte' in metrics:
    said = f'{metrics["bits_per_byte"]:.3f} bits a byte, {said} of the tokens'
  return f'{said} of {evaluation.num_examples} held-out examples'
