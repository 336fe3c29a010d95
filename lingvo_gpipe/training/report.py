# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run in this process: trains, evaluates on held-out data, reports."""

import contextlib
import dataclasses
import itertools
import os
import statistics
import sys
import time

import lingvo.compat as tf
import tqdm
from absl import logging

from lingvo_gpipe.training import (
  cores,
  listeners,
  pipeline_params,
  pipeline_report,
  progress,
  runner_manager,
  trainer_run,
)

FLAGS = tf.flags.FLAGS

_HELD_OUT = 'Test'

_WARM_UP_STEPS = 5
_NUM_STRETCHES = 3
_STRETCH_STEPS = 5
# With fewer steps than this the medians would mean little.
MIN_STEPS = _WARM_UP_STEPS + 2 * _NUM_STRETCHES * (_STRETCH_STEPS + 3)


class StepTimes(listeners.StepListener):
  """Times steps, on all cores and on one.

  How efficient a pipeline is can only be said against the same work done
  without one. A few short stretches of the training therefore run with the
  whole process bound to one core: the same graph, session, schedule and input,
  so one core does all that otherwise K cores do between them.

      steps   0 ...... | warm-up, not counted
                       | all cores: T_K
              n/4      | one core for a few steps: T_1
                       | all cores
              n/2      | one core
                       | ...

      efficiency = T_1 / (K * T_K)           (1: no core ever waits)
      bound      = M / (M + K - 1)           (the bubble of M micro-batches)

  A step lasts until the trainer is ready for the next one: input, forward,
  backward, update and the writing of metrics. The steps at the edges of a
  stretch are not counted, since caches and clocks follow slowly.
  """

  def __init__(self, last_step, clock=time.perf_counter):
    self._last_step = last_step
    self._clock = clock
    self._cores = os.sched_getaffinity(0)
    self._one_core_steps = None  # Known when the first step is.
    self._steps = []  # (seconds, whether on one core) of every step, in order.
    self._on_one_core = False
    self._started = None

  def before_step(self, step):
    if self._one_core_steps is None:
      self._one_core_steps = set()
      if len(self._cores) > 1:
        self._one_core_steps.update(one_core_steps(self._last_step - step))
    self._bind(len(self._steps) in self._one_core_steps)
    self._started = self._clock()

  def after_step(self, step, metrics):
    self._steps.append((self._clock() - self._started, self._on_one_core))

  def close(self):
    """Ends the measurement, wherever it stands."""
    self._bind(False)

  def _bind(self, on_one_core):
    """Binds TensorFlow's threads as well, so nothing is built again."""
    if on_one_core == self._on_one_core:
      return
    chosen = {min(self._cores)} if on_one_core else self._cores
    try:
      cores.bind_all_threads(chosen)
      self._on_one_core = on_one_core
    except OSError:
      # Not allowed here, in a sandbox for instance: train on without it.
      self._one_core_steps = set()

  def seconds(self):
    """Seconds of the steps that count: on all cores, and on one."""
    found = {False: [], True: []}
    pairs = itertools.pairwise(self._steps)
    for (_, before), (seconds, on_one) in list(pairs)[_WARM_UP_STEPS - 1 :]:
      if before == on_one:
        found[on_one].append(seconds)
    return found[False], found[True]


def one_core_steps(num_steps):
  """The steps of so many, counted from 0, that run on one core, in order."""
  if num_steps < MIN_STEPS:
    return []
  spacing = (num_steps - _WARM_UP_STEPS) // (_NUM_STRETCHES + 1)
  firsts = (_WARM_UP_STEPS + i * spacing for i in range(1, _NUM_STRETCHES + 1))
  return [first + i for first in firsts for i in range(_STRETCH_STEPS)]


@dataclasses.dataclass
class Run:
  """What a run has done.

  Attributes:
    stages: {name: seconds} of the run's parts, in order.
    num_micro_batches: M, None for a model without a pipeline.
    seconds: What `StepTimes.seconds` returns.
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
  seconds: tuple[list[float], list[float]] = ((), ())
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
    trial = listeners.ObservingTrial()
    manager = runner_manager.RunnerManager(model, trial, 'devices')
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
    _train(manager, trial, run, more_listeners())
    print('Evaluating on held-out data ...', flush=True)
    with run.stage('evaluation'):
      (evaler,) = manager.CreateRunners([f'evaler_{_HELD_OUT}'], FLAGS.logdir)
      evaler.EvalLatestCheckpoint()
    run.evaluation = trial.evaluations[-1]
    print('\n' + report(run))


def _command_line():
  python = os.path.relpath(sys.executable)
  if python.startswith('..'):
    python = sys.executable
  model = f' --model={FLAGS.model}' if FLAGS['model'].present else ''
  return f'{python} -m lingvo_gpipe.first_run{model}'


def _train(manager, trial, run, more_listeners):
  cfg = manager.GetParamsForDataset('trainer_client', 'Train')
  times = StepTimes(cfg.train.max_steps)
  bar = progress.Progress(sys.stdout, lambda: cfg.train.max_steps)
  trial.listeners += [times, bar, *more_listeners]
  with run.stage('graph'):
    (trainer,) = manager.CreateRunners(['trainer_client'], FLAGS.logdir)
  with run.stage('training'):
    try:
      manager.StartRunners([trainer])
    finally:
      times.close()
      bar.close()
  run.num_weights = trainer.num_weights
  run.schedule = pipeline_params.find(cfg, 'schedule')
  # A model may have a pipeline of its own kind.
  run.num_micro_batches = pipeline_params.find(cfg, 'num_micro_batches')
  for pipeline in pipeline_report.pipelines(trainer.model):
    run.num_micro_batches = pipeline_report.num_micro_batches(pipeline)
    break
  run.seconds = times.seconds()


# -- The report.


def _evaluation_line(evaluation):
  metrics = evaluation.metrics
  text = f'loss {metrics["loss"]:.4g}'
  if 'accuracy' in metrics:
    text = f'{metrics["accuracy"]:.2%}'
  if 'bits_per_byte' in metrics:
    text = f'{metrics["bits_per_byte"]:.3f} bits a byte, {text} of the tokens'
  return f'{text} of {evaluation.num_examples} held-out examples'


def _efficiency_lines(run):
  """Lines on the pipeline's efficiency, or on why it wasn't measured."""
  all_cores, one_core = run.seconds
  num_cores, k, m = cores.num_usable(), run.num_devices, run.num_micro_batches
  if k == 1:
    return ['one device: nothing to compare']
  if num_cores < k:
    return [
      f'not measured: {k} devices, but this process may use only {num_cores} '
      'core(s)'
    ]
  if not all_cores or not one_core:
    return [
      f'not measured: that takes {MIN_STEPS} steps and Linux, where a process '
      'can be bound to one core'
    ]
  alone = statistics.median(one_core)
  measured = alone / (k * statistics.median(all_cores))
  lines = [
    f'{measured:.1%} = T_1 / (K T_K); one core alone took T_1 = '
    f'{alone * 1e3:.1f} ms',
    f'for the same steps (median of {len(one_core)})',
  ]
  if m:
    # Huang et al., "GPipe", NeurIPS 2019, section 2.3.
    bound = m / (m + k - 1)
    lines[1] += f'; the bubble allows M/(M+K-1) = {bound:.1%},'
    lines.append(f'of which this is {measured / bound:.0%}')
  return lines


def _next_lines(run):
  """Commands worth trying next, each with what it shows."""
  more_steps = 2 * run.evaluation.step
  lines = [
    f'{run.command} --logdir={run.logdir} --max_steps={more_steps}',
    '  continues from the checkpoint',
    f'{run.command} --devices=1',
    '  the same model and the same numbers on one device',
  ]
  if run.schedule:
    other = 'gpipe' if run.schedule == '1f1b' else '1f1b'
    lines += [
      f'{run.command} --schedule={other}',
      '  the other order of tasks: the same numbers, another memory use',
    ]
  return [*lines, f'tensorboard --logdir={run.logdir}', '  curves']


def report(run):
  """Returns the report on a `Run`, several lines of text."""
  step_time = 'not measured: no step after the warm-up'
  all_cores, _ = run.seconds
  if all_cores:
    step_time = (
      f'{statistics.median(all_cores) * 1e3:.1f} ms, median of '
      f'{len(all_cores)} steps'
    )
  pipeline = f'K = {run.num_devices} devices'
  if run.num_micro_batches:
    pipeline += (
      f', M = {run.num_micro_batches} micro-batches, schedule {run.schedule}'
    )
  duration = tqdm.tqdm.format_interval
  stages = [f'{name} {duration(s)}' for name, s in run.stages.items()]
  total = duration(sum(run.stages.values()))
  step = run.evaluation.step
  lines = []
  for title, texts in (
    ('Model', [f'{run.model}, {run.num_weights:,} weights, {step} steps']),
    ('Accuracy', [_evaluation_line(run.evaluation)]),
    ('Step time', [step_time]),
    ('Pipeline', [pipeline]),
    ('Efficiency', _efficiency_lines(run)),
    ('Time', [f'{total}: {", ".join(stages)}']),
    ('Log', [run.log]),
    ('Checkpoint', [run.evaluation.checkpoint]),
    ('Next', _next_lines(run)),
  ):
    lines += [
      f'{title if i == 0 else "":<12}{text}' for i, text in enumerate(texts)
    ]
  return '\n'.join(lines)
