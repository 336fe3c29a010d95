# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.benchmark import cases, process_memory, speed, step_worker

_LINGVO, _OURS = cases.BASELINE, cases.Variant('ours')


class _Worker:
  """Answers as a step worker does, and keeps a log of what was asked."""

  def __init__(self, case, variant, log):
    self._name = variant.name
    self._log = log

  def __enter__(self):
    self._log.append(('start', self._name))
    return self

  def __exit__(self, *unused):
    self._log.append(('stop', self._name))

  def receive(self):
    return {}

  def ask(self, do, count=None):
    self._log.append((do, self._name))
    if do == 'build':
      return {'seconds': 7.0, 'loss': 9.0, 'ops': 3}
    if do == 'steps':
      # Steps get faster with time.
      base = 100 - len(self._log)
      return {
        'seconds': [base + i for i in range(count)],
        'cpu_seconds': [2.0] * count,
        'loss': base,
      }
    return {'idle': 5, 'peak': 25}


def _measure(monkeypatch, plan):
  log = []
  monkeypatch.setattr(
    speed, '_worker', lambda case, variant, plan: _Worker(case, variant, log)
  )
  return speed.measure(cases.TINY_CASE, [_LINGVO, _OURS], plan), log


def test_variants_take_turns_while_all_are_alive(monkeypatch):
  _, log = _measure(monkeypatch, speed.Plan(runs=1, rounds=2, steps=3))
  assert [what for what, name in log if name == _OURS.name] == [
    'start', 'build', 'steps', 'steps', 'steps', 'memory', 'stop',
  ]  # fmt: skip
  asked = [name for what, name in log if what == 'steps']
  assert asked == [_LINGVO.name, _OURS.name] * 3
  whats = [what for what, _ in log]
  assert whats.index('stop') > whats.index('memory') > whats.index('steps')


def test_counts_all_runs_and_not_the_warm_up(monkeypatch):
  measured, log = _measure(monkeypatch, speed.Plan(runs=2, rounds=2, steps=3))
  own = measured[_OURS]
  assert len(own.step_seconds) == len(own.cpu_seconds) == 2 * 2 * 3
  assert own.build_seconds == [7.0, 7.0]
  assert own.above_idle == 20
  assert max(own.step_seconds) < 100 - log.index(('steps', _OURS.name))
  assert own.losses == [9.0, min(own.step_seconds)]


def test_a_plan_measures_something():
  with pytest.raises(ValueError, match='rounds is 0'):
    speed.Plan(rounds=0)


@pytest.mark.skipif(not process_memory.available(), reason='/proc takes Linux')
def test_a_worker_runs_the_steps_of_its_variant():
  worker = step_worker.StepWorker(
    cases.TINY_CASE, cases.Variant('ours', '1f1b', 'never')
  )
  built = worker.carry_out({'do': 'build'})
  steps = worker.carry_out({'do': 'steps', 'count': 2})
  memory = worker.carry_out({'do': 'memory'})
  assert len(steps['seconds']) == len(steps['cpu_seconds']) == 2
  assert steps['loss'] < built['loss']
  assert 0 < memory['idle'] <= memory['peak']
