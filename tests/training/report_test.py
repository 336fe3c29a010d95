# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import itertools
import re

import pytest

from lingvo_gpipe.training import cores, listeners, report


def _evaluation(num_examples=364, **metrics):
  path = '/logs/train/ckpt-00000300'
  return listeners.Evaluation(300, metrics, num_examples, path)


def _section(title, **changes):
  """The lines of a section of the report, joined."""
  run = report.Run(
    **{
      'model': 'image.digits.AmoebaNetD',
      'num_weights': 12345,
      'num_devices': 2,
      'num_micro_batches': 8,
      'schedule': '1f1b',
      'seconds': ([0.5] * 200, [0.8] * 12),
      'evaluation': _evaluation(accuracy=0.9725, loss=0.1),
      'logdir': '/logs',
      'log': '/logs/log.txt',
      'stages': {'loading': 6.0, 'training': 150.0},
      'command': 'python -m lingvo_gpipe.first_run',
      **changes,
    }
  )
  text = report.report(run)
  assert max(map(len, text.splitlines())) <= 100
  sections = re.split(r'^(?=\S)', text, flags=re.MULTILINE)
  (section,) = (s for s in sections if s.startswith(title))
  return ' '.join(line[12:] for line in section.splitlines())


@pytest.fixture
def two_cores(monkeypatch):
  monkeypatch.setattr(cores, 'num_usable', lambda: 2)


def test_everything_is_there(two_cores):
  assert _section('Accuracy') == '97.25% of 364 held-out examples'
  assert _section('Step time') == '500.0 ms, median of 200 steps'
  shown = _section('Efficiency')
  # 0.8 / (2 * 0.5), 8/9 and the ratio of the two.
  assert shown.startswith('80.0% = T_1 / (K T_K)')
  assert 'T_1 = 800.0 ms' in shown
  assert '88.9%' in shown
  assert shown.endswith('this is 90%')
  assert _section('Checkpoint') == '/logs/train/ckpt-00000300'
  assert _section('Log') == '/logs/log.txt'
  assert _section('Time').startswith('02:36')
  assert '--max_steps=600' in _section('Next')
  assert '--schedule=gpipe' in _section('Next')


@pytest.mark.parametrize(
  ('changes', 'told'),
  [
    ({'num_devices': 1}, 'one device: nothing to compare'),
    ({'num_devices': 4}, 'not measured: 4 devices, .* only 2 core'),
    ({'seconds': ([], [])}, f'not measured: .* {report.MIN_STEPS} steps'),
  ],
)
def test_why_there_is_no_efficiency_is_told(two_cores, changes, told):
  assert re.match(told, _section('Efficiency', **changes))


@pytest.mark.parametrize(
  ('evaluation', 'accuracy'),
  [
    (_evaluation(7, loss=0.25), 'loss 0.25 of 7 held-out examples'),
    (
      _evaluation(accuracy=0.5125, loss=2.0, bits_per_byte=1.98765),
      '1.988 bits a byte, 51.25% of the tokens of 364 held-out examples',
    ),
  ],
)
def test_other_models_are_told_by_what_they_measure(evaluation, accuracy):
  assert _section('Accuracy', evaluation=evaluation) == accuracy


# -- The times of steps.


@pytest.fixture
def bound(monkeypatch):
  """How many cores the process was bound to, each time."""
  found = []
  monkeypatch.setattr(
    cores, 'bind_all_threads', lambda chosen: found.append(len(chosen))
  )
  monkeypatch.setattr(report.os, 'sched_getaffinity', lambda pid: {0, 1})
  return found


def _seconds(num_steps, first_step=0):
  """Of steps of 2 s on all cores and 3 s on one; the first takes 100 s."""
  now = 0.0
  times = report.StepTimes(num_steps, clock=lambda: now)
  for step in range(first_step, num_steps):
    times.before_step(step)
    now += 100 if step == first_step else 3 if times._on_one_core else 2
    times.after_step(step + 1, {})
    now += 50  # Nobody's time: between the steps.
  times.before_step(num_steps)
  times.close()
  return times.seconds()


def test_some_steps_run_on_one_core(bound):
  # 15 steps on one core, of which the first of each three do not count; 85 on
  # all cores, less five at the start and one after each stretch.
  assert _seconds(100) == ([2] * 77, [3] * 12)
  assert bound == [1, 2] * 3


@pytest.mark.parametrize(
  ('num_steps', 'first_step', 'counted'),
  [
    (report.MIN_STEPS - 1, 0, report.MIN_STEPS - 1 - 5),
    (110, 100, 5),  # After a restart the steps of this run count.
    (10, 10, 0),
  ],
)
def test_too_few_steps_are_not_run_on_one_core(
  bound, num_steps, first_step, counted
):
  assert _seconds(num_steps, first_step) == ([2] * counted, [])
  assert bound == []


def test_training_goes_on_where_binding_is_forbidden(bound, monkeypatch):
  def refuse(chosen):
    raise PermissionError

  monkeypatch.setattr(cores, 'bind_all_threads', refuse)
  assert _seconds(100) == ([2] * 95, [])


@pytest.mark.parametrize('num_steps', [report.MIN_STEPS, 61, 100, 1000])
def test_stretches_lie_apart_and_inside(num_steps):
  steps = [4, *report.one_core_steps(num_steps), num_steps]
  gaps = [b - a for a, b in itertools.pairwise(steps)]
  assert sorted(gaps)[:12] == [1] * 12
  assert sorted(gaps)[12] > 3
