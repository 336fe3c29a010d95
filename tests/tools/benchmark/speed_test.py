# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
from concurrent import futures

from tools.benchmark import cases, speed
from tools.benchmark.measured import Cut
from tools.benchmark.speed import Plan
from tools.common.fresh import ProcessError

_CASE = cases.TINY_CASES[0]
_LINGVO, _OURS, _PLAIN = cases.variants(
  _CASE, ['lingvo', 'ours-1f1b-never', 'plain']
)


class _Worker:
  """Answers as a worker does, and keeps a log of what was asked."""

  def __init__(self, name, log, fails):
    self._name = name
    self._log = log
    self._fails = fails
    self._one_core = False
    self.pids = [os.getpid()]
    self.version = 'Some 1.0'

  def pin(self, *, one_core):
    self._one_core = one_core

  def stop(self):
    self._log.append(('stop', self._name))

  def ask(self, do, count=None):
    self._log.append((f'{do} alone' if self._one_core else do, self._name))
    if self._fails:
      raise ProcessError('cannot')
    if do == 'build':
      reply = {'graph_seconds': [7.0], 'first_step_seconds': [2.0]}
      return {**reply, 'losses': [9.0]}
    # Steps get faster with time.
    base = 100 - len(self._log)
    seconds = [base + i for i in range(count)]
    return {'step_seconds': seconds, 'losses': [base] * count}


class _Pool:
  """Measures memory in this process."""

  def submit(self, *call):
    future = futures.Future()
    try:
      future.set_result(call[0](*call[1:]))
    except ProcessError as error:
      future.set_exception(error)
    return future


def _measure(monkeypatch, plan, failing=()):
  log = []

  def start(variant, cut, torch_python):
    name = variant.method
    log.append(('start', name))
    return _Worker(name, log, name in failing)

  def device_bytes(variant, cut, torch_python):
    log.append(('memory', variant.method))
    if variant is _LINGVO:
      raise ProcessError('no memory')
    return [5, 25]

  cut = Cut([1], ['a'] * 2, [(1.0, 2.0)] * 2, 'flops')
  monkeypatch.setattr(speed.workers, 'start', start)
  monkeypatch.setattr(speed.workers, 'device_bytes', device_bytes)
  monkeypatch.setattr(speed.fresh, 'call', lambda *unused: cut)
  wanted = [_LINGVO, _OURS, _PLAIN]
  return speed.measure(_CASE, wanted, plan, _Pool()), log


def test_variants_take_turns_while_all_are_alive(monkeypatch):
  _, log = _measure(monkeypatch, Plan(rounds=2, steps=3))
  name = _OURS.method
  assert [what for what, of in log if of == name] == [
    *('start', 'build'),
    *['steps', 'steps alone'] * 3,
    *('stop', 'memory'),
  ]
  asked = [of for what, of in log if what == 'steps']
  assert asked == ['lingvo', name, 'plain'] * 3
  whats = [what for what, _ in log]
  assert whats.index('memory') > whats.index('stop') > whats.index('steps')
  assert whats.index('build') > max(
    i for i, what in enumerate(whats) if what == 'start'
  )


def test_a_pipeline_has_one_core_times_and_no_other_has(monkeypatch):
  report, _ = _measure(monkeypatch, Plan(rounds=2, one_core_steps=2))
  assert len(report.measured[_OURS].one_core_seconds) == 4
  assert not report.measured[_PLAIN].one_core_seconds
  report, log = _measure(monkeypatch, Plan(one_core_steps=0))
  assert not report.measured[_OURS].one_core_seconds
  assert 'steps alone' not in [what for what, _ in log]


def test_counts_all_runs_and_not_the_warm_up(monkeypatch):
  report, log = _measure(monkeypatch, Plan(runs=2, rounds=2, steps=3))
  own = report.measured[_OURS]
  assert len(own.step_seconds) == 2 * 2 * 3
  assert len(own.peak_bytes) == len(own.idle_bytes) == 2
  assert own.graph_seconds == [7.0, 7.0]
  assert own.device_bytes == [5, 25]
  assert max(own.step_seconds) < 100 - log.index(('steps', _OURS.method))
  # The first step, one of both kinds that do not count, and two rounds.
  assert len(own.losses) == 1 + 2 + 2 * (3 + 1)
  assert (own.losses[0], own.losses[-1]) == (9.0, min(own.one_core_seconds))


def test_what_cannot_be_run_does_not_stop_the_others(monkeypatch):
  report, log = _measure(monkeypatch, Plan(runs=2), failing=['lingvo'])
  assert report.measured[_LINGVO].error == 'cannot'
  assert [of for what, of in log if what == 'steps'].count('lingvo') == 0
  assert log.count(('start', 'lingvo')) == 1
  assert set(report.run) == {_OURS, _PLAIN}
  assert {own.version for own in report.run.values()} == {'Some 1.0'}


def test_memory_that_cannot_be_measured_is_noted_and_may_be_left_out(
  monkeypatch,
):
  report, _ = _measure(monkeypatch, Plan())
  assert report.measured[_LINGVO].memory_error == 'no memory'
  assert not report.measured[_LINGVO].error
  report, log = _measure(monkeypatch, Plan(no_memory=True))
  assert 'memory' not in [what for what, _ in log]
  assert not report.measured[_OURS].device_bytes
