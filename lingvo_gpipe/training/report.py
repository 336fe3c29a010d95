# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run in this process: trains, evaluates on held-out data, reports."""

import contextlib
import dataclasses
import os
import sys
import time

import lingvo.compat as tf
from absl import logging

from lingvo_gpipe.training import (
  cores,
  efficiency,
  listeners,
  pipeline_params,
  pipeline_report,
  progress,
  runner_manager,
  trainer_run,
)

FLAGS = tf.flags.FLAGS

_HELD_OUT = 'Test'
# With less than this of a core, times say more about other programs.
_BUSY_SHARE = 0.9


@dataclasses.dataclass
class Run:
  """What a run has done.

  Attributes:
    stages: {name: seconds} of the run's parts, in order.
    num_micro_batches: M, None for a model without a pipeline.
    per_step: What a mini-batch has, {'examples': number, 'tokens': number},
      as far as the model says.
  """

  model: str
  logdir: str
  log: str
  command: str
  num_devices: int
  stages: dict[str, float]
  num_weights: int = 0
  num_micro_batches: int | None = None
  schedule: str | None = None
  times: efficiency.StepTimeSummary | None = None
  per_step: dict[str, float] = dataclasses.field(default_factory=dict)
  evaluation: listeners.Evaluation | None = None

  @contextlib.contextmanager
  def stage(self, name):
    """Times a part of the run."""
    started = time.monotonic()
    yield
    self.stages[name] = time.monotonic() - started


def train_evaluate_report(log, loading_seconds, more_listeners):
  """Trains, evaluates and reports; raises what `trainer_run.run` does."""
  with trainer_run.prepared(log) as model:
    logging.set_verbosity(logging.INFO)
    manager = runner_manager.RunnerManager(model, devices_flag='devices')
    manager.MaybeConfigRunLocally()
    run = Run(
      model=FLAGS.model,
      logdir=FLAGS.logdir,
      log=log.path,
      command=_command_line(),
      num_devices=FLAGS.worker_split_size,
      stages={'loading': loading_seconds},
    )
    print(
      f'Training {run.model} on {run.num_devices} CPU device(s); log and '
      f'checkpoints: {run.logdir}\n'
      'Building the graph; the first step optimises it ...',
      flush=True,
    )
    cfg = manager.GetParamsForDataset('trainer_client', 'Train')
    _train(model, cfg, run, more_listeners())
    print('Evaluating on held-out data ...', flush=True)
    _evaluate(model, run)
    print('\n' + report(run))


def _command_line():
  python = os.path.relpath(sys.executable)
  if python.startswith('..'):
    python = sys.executable
  model = f' --model={FLAGS.model}' if FLAGS['model'].present else ''
  return f'{python} -m lingvo_gpipe.first_run{model}'


def _train(model, cfg, run, more_listeners):
  times = efficiency.StepTimes(cfg.train.max_steps)
  bar = progress.Progress(
    sys.stdout,
    lambda: cfg.train.max_steps,
    note=lambda: 'timing one core' if times.on_one_core else '',
  )
  trial = listeners.ObservingTrial([times, bar, *more_listeners])
  manager = runner_manager.RunnerManager(model, trial)
  with run.stage('graph'):
    runners = manager.CreateRunners(['trainer_client'], FLAGS.logdir)
  with run.stage('training'):
    try:
      manager.StartRunners(runners)
    finally:
      times.close()
      bar.close()
  run.num_weights = runners[0].num_weights
  run.schedule = pipeline_params.find(cfg, 'schedule')
  # A model may have a pipeline of its own kind.
  run.num_micro_batches = pipeline_params.find(cfg, 'num_micro_batches')
  for pipeline in pipeline_report.pipelines(runners[0].model):
    run.num_micro_batches = pipeline_report.num_micro_batches(pipeline)
    break
  run.times = times.summary()
  run.per_step = bar.last_counts


def _evaluate(model, run):
  """Evaluates the newest checkpoint."""
  trial = listeners.ObservingTrial()
  manager = runner_manager.RunnerManager(model, trial)
  with run.stage('evaluation'):
    (evaler,) = manager.CreateRunners([f'evaler_{_HELD_OUT}'], FLAGS.logdir)
    evaler.EvalLatestCheckpoint()
  run.evaluation = trial.evaluations[-1]


# -- The report.


def _evaluation_line(evaluation):
  metrics = evaluation.metrics
  if 'accuracy' in metrics:
    text = f'{metrics["accuracy"]:.2%}'
    if 'bits_per_byte' in metrics:
      text = f'{metrics["bits_per_byte"]:.3f} bits a byte, {text} of the tokens'
  else:
    text = f'loss {metrics["loss"]:.4g}'
  return f'{text} of {evaluation.num_examples} held-out examples'


def _step_time_line(run):
  seconds = run.times.seconds
  if not seconds:
    return 'not measured: no step after the warm-up'
  text = f'{seconds * 1e3:.1f} ms, median of {run.times.num_steps} steps'
  for name in ('tokens', 'examples'):
    if run.per_step.get(name):
      return f'{text} ({run.per_step[name] / seconds:.0f} {name}/s)'
  return text


def _efficiency_lines(run):
  """Lines on the pipeline's efficiency, or on why it wasn't measured."""
  times, measured = run.times, run.times.efficiency(run.num_devices)
  num_cores = cores.num_usable()
  if run.num_devices == 1:
    return ['one device: nothing to compare']
  if num_cores < run.num_devices:
    return [
      f'not measured: {run.num_devices} devices, but this process may use '
      f'only {num_cores} core(s)'
    ]
  if measured is None:
    return [
      f'not measured: that takes {efficiency.MIN_STEPS} steps and Linux, where '
      'a process can be bound to one core'
    ]
  lines = [
    f'{measured:.1%} = T_1 / (K T_K); one core alone took T_1 = '
    f'{times.one_core_seconds * 1e3:.1f} ms',
    f'for the same steps (median of {times.num_one_core_steps})',
  ]
  if run.num_micro_batches:
    bound = efficiency.bound(run.num_micro_batches, run.num_devices)
    lines[1] += f'; the bubble allows M/(M+K-1) = {bound:.1%},'
    lines.append(f'of which this is {measured / bound:.0%}')
  share = times.one_core_share
  if share is not None and share < _BUSY_SHARE:
    lines.append(
      f'Other programs were running: this one had {share:.0%} of its core. '
      'Compare on an idle machine.'
    )
  return lines


def _next_lines(run):
  """Commands worth trying next, each with what it shows."""
  other = 'gpipe' if run.schedule == '1f1b' else '1f1b'
  more_steps = 2 * run.evaluation.step
  lines = [
    f'{run.command} --logdir={run.logdir} --max_steps={more_steps}',
    '  continues from the checkpoint',
    f'{run.command} --devices=1',
    '  the same model and the same numbers on one device',
  ]
  if run.schedule:
    lines += [
      f'{run.command} --schedule={other}',
      '  the other order of tasks: the same numbers, another memory use',
    ]
  return [*lines, f'tensorboard --logdir={run.logdir}', '  curves']


def report(run):
  """Returns the report on a `Run`, several lines of text."""
  evaluation = run.evaluation
  pipeline = f'K = {run.num_devices} devices'
  if run.num_micro_batches:
    pipeline += (
      f', M = {run.num_micro_batches} micro-batches, schedule {run.schedule}'
    )
  stages = ', '.join(
    f'{name} {progress.format_duration(seconds)}'
    for name, seconds in run.stages.items()
  )
  total = progress.format_duration(sum(run.stages.values()))
  model = f'{run.model}, {run.num_weights:,} weights, {evaluation.step} steps'
  lines = []
  for title, texts in (
    ('Model', [model]),
    ('Accuracy', [_evaluation_line(evaluation)]),
    ('Step time', [_step_time_line(run)]),
    ('Pipeline', [pipeline]),
    ('Efficiency', _efficiency_lines(run)),
    ('Time', [f'{total}: {stages}']),
    ('Log', [run.log]),
    ('Checkpoint', [evaluation.checkpoint]),
    ('Next', _next_lines(run)),
  ):
    lines += [
      f'{title if i == 0 else "":<12}{text}' for i, text in enumerate(texts)
    ]
  return '\n'.join(lines)
