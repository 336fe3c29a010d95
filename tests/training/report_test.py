# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import re

import pytest

from lingvo_gpipe.training import cores, efficiency, listeners, report

_NO_TIMES = efficiency.StepTimeSummary(None, 0, None, 0)


def _evaluation(step=300, num_examples=364, **metrics):
  return listeners.Evaluation(
    step, metrics, num_examples, '/logs/train/ckpt-00000300'
  )


def _run(**changes):
  fields = {
    'model': 'image.digits.AmoebaNetD',
    'num_weights': 12345,
    'num_devices': 2,
    'num_micro_batches': 8,
    'schedule': '1f1b',
    'times': efficiency.StepTimeSummary(0.5, 200, 0.8, 12),
    'per_step': {'examples': 64.0},
    'evaluation': _evaluation(accuracy=0.9725, loss=0.1),
    'logdir': '/logs',
    'log': '/logs/log.txt',
    'stages': {'loading': 6.0, 'training': 150.0},
    'command': 'python -m lingvo_gpipe.first_run',
  }
  return report.Run(**{**fields, **changes})


def _section(text, title):
  """The lines of a section, joined."""
  lines = text.splitlines()
  start = next(i for i, line in enumerate(lines) if line.startswith(title))
  end = start + 1
  while end < len(lines) and lines[end].startswith(' '):
    end += 1
  return ' '.join(line[12:] for line in lines[start:end])


@pytest.fixture
def two_cores(monkeypatch):
  monkeypatch.setattr(cores, 'num_usable', lambda: 2)


def test_everything_is_there(two_cores):
  text = report.report(_run())
  assert '97.25% of 364 held-out examples' in _section(text, 'Accuracy')
  step_time = _section(text, 'Step time')
  assert step_time == '500.0 ms, median of 200 steps (128 examples/s)'
  shown = _section(text, 'Efficiency')
  # 0.8 / (2 * 0.5), 8/9 and the ratio of the two.
  assert shown.startswith('80.0% = T_1 / (K T_K)')
  assert 'T_1 = 800.0 ms' in shown
  assert '88.9%' in shown
  assert shown.endswith('this is 90%')
  assert _section(text, 'Checkpoint') == '/logs/train/ckpt-00000300'
  assert _section(text, 'Log') == '/logs/log.txt'
  assert _section(text, 'Time').startswith('2:36')
  assert '--max_steps=600' in _section(text, 'Next')
  assert '--schedule=gpipe' in _section(text, 'Next')
  assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.parametrize(('share', 'told'), [(0.99, False), (0.5, True)])
def test_a_busy_machine_is_told_of(two_cores, share, told):
  times = efficiency.StepTimeSummary(0.5, 200, 0.8, 12, share)
  text = _section(report.report(_run(times=times)), 'Efficiency')
  assert ('had 50% of its core' in text) == told
  assert ('idle machine' in text) == told


@pytest.mark.parametrize(
  ('changes', 'told'),
  [
    ({'num_devices': 1}, 'one device: nothing to compare'),
    ({'num_devices': 4}, 'not measured: 4 devices, .* only 2 core'),
    ({'times': _NO_TIMES}, f'not measured: .* {efficiency.MIN_STEPS} steps'),
  ],
)
def test_why_there_is_no_efficiency_is_told(two_cores, changes, told):
  text = report.report(_run(**changes))
  assert re.match(told, _section(text, 'Efficiency'))
  step_time = _section(text, 'Step time')
  assert step_time.startswith('not measured') == ('times' in changes)


@pytest.mark.parametrize(
  ('evaluation', 'accuracy'),
  [
    (
      _evaluation(num_examples=7, loss=0.25),
      'loss 0.25 of 7 held-out examples',
    ),
    (
      _evaluation(accuracy=0.5125, loss=2.0, bits_per_byte=1.98765),
      '1.988 bits a byte, 51.25% of the tokens of 364 held-out examples',
    ),
  ],
)
def test_other_models_are_told_by_what_they_measure(evaluation, accuracy):
  text = report.report(_run(evaluation=evaluation))
  assert _section(text, 'Accuracy') == accuracy


def test_language_models_have_tokens():
  run = _run(per_step={'examples': 8.0, 'tokens': 1000.0})
  assert '(2000 tokens/s)' in _section(report.report(run), 'Step time')
