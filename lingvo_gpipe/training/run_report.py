# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report at the end of a training run."""

import dataclasses

from lingvo_gpipe.training import one_core, run_observer, step_times
from lingvo_gpipe.training.progress import format_duration

# With less than this of a core, times say more about other programs.
_BUSY_SHARE = 0.9


def efficiency_bound(num_micro_batches, num_cells):
  """M / (M + K - 1): what the bubble leaves of K devices with equal cells.

  Source: Huang et al., "GPipe", NeurIPS 2019, section 2.3, which gives the
  bubble as O((K - 1) / (M + K - 1)).
  """
  return num_micro_batches / (num_micro_batches + num_cells - 1)


@dataclasses.dataclass(frozen=True)
class Run:
  """What a run has done.

  Attributes:
    model: The model's name.
    num_weights: How many weights it has.
    num_devices: K.
    num_micro_batches: M, None for a model without a pipeline.
    schedule: The schedule's name, None for a model without a pipeline.
    steps: The steps done, those before a restart included.
    times: Times of the steps of this run.
    per_step: What a mini-batch has, {'examples': number, 'tokens': number},
      as far as the model says.
    evaluation: The evaluation on held-out data, None if there was none.
    logdir: The directory of everything that was written.
    log: Path of the file with the log lines.
    stages: {name: seconds} of the run's parts, in order.
    command: The command that the user gave, without flags.
  """

  model: str
  num_weights: int
  num_devices: int
  num_micro_batches: int | None
  schedule: str | None
  steps: int
  times: step_times.StepTimeSummary
  per_step: dict[str, float]
  evaluation: run_observer.Evaluation | None
  logdir: str
  log: str
  stages: dict[str, float]
  command: str


def _evaluation_line(run):
  evaluation = run.evaluation
  if evaluation is None:
    return 'not evaluated'
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
      text += f' ({run.per_step[name] / seconds:.0f} {name}/s)'
      break
  return text


def _efficiency_lines(run):
  """Lines on the pipeline's efficiency, or on why it wasn't measured."""
  efficiency = run.times.efficiency(run.num_devices)
  cores = one_core.num_usable_cores()
  if run.num_devices == 1:
    return ['one device: nothing to compare']
  if cores < run.num_devices:
    return [
      f'not measured: {run.num_devices} devices, but this process may use '
      f'only {cores} core(s)'
    ]
  if efficiency is None:
    return [
      f'not measured: that takes {step_times.MIN_STEPS} steps and Linux, where '
      'a process can be bound to one core'
    ]
  times = run.times
  lines = [
    f'{efficiency:.1%} = T_1 / (K T_K); one core alone took T_1 = '
    f'{times.one_core_seconds * 1e3:.1f} ms',
    f'for the same steps (median of {times.num_one_core_steps})',
  ]
  if run.num_micro_batches:
    bound = efficiency_bound(run.num_micro_batches, run.num_devices)
    lines[1:] = [
      f'for the same steps (median of {times.num_one_core_steps}); the bubble '
      f'allows M/(M+K-1) = {bound:.1%},',
      f'of which this is {efficiency / bound:.0%}',
    ]
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
  lines = [
    f'{run.command} --logdir={run.logdir} --max_steps={2 * run.steps}',
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
  pipeline = f'K = {run.num_devices} devices'
  if run.num_micro_batches:
    pipeline += (
      f', M = {run.num_micro_batches} micro-batches, schedule {run.schedule}'
    )
  stages = ', '.join(
    f'{name} {format_duration(seconds)}' for name, seconds in run.stages.items()
  )
  rows = [
    ('Model', [f'{run.model}, {run.num_weights:,} weights, {run.steps} steps']),
    ('Accuracy', [_evaluation_line(run)]),
    ('Step time', [_step_time_line(run)]),
    ('Pipeline', [pipeline]),
    ('Efficiency', _efficiency_lines(run)),
    ('Time', [f'{format_duration(sum(run.stages.values()))}: {stages}']),
    ('Log', [run.log]),
  ]
  if run.evaluation:
    rows.append(('Checkpoint', [run.evaluation.checkpoint]))
  rows.append(('Next', _next_lines(run)))
  lines = []
  for title, texts in rows:
    lines += [
      f'{title if i == 0 else "":<12}{text}' for i, text in enumerate(texts)
    ]
  return '\n'.join(lines)
