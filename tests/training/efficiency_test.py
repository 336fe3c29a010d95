# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.training import cores, efficiency


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch):
  monkeypatch.setattr(efficiency.os, 'sched_getaffinity', lambda pid: {4, 7})
  monkeypatch.setattr(cores, 'num_usable', lambda: 2)


def _train(num_steps, first_step=0, refuse=False):
  """Steps of 3 s on both cores and 4 s on one; the first takes 100 s."""
  now, bound = [0.0], [{4, 7}]

  def bind(to):
    bound.append(to)
    if refuse and len(to) == 1:
      raise PermissionError

  times = efficiency.StepTimes(num_steps, bind, lambda: now[0])
  for step in range(first_step, num_steps):
    times.before_step(step)
    now[0] += 100 if step == first_step else 5 - len(bound[-1])
    times.after_step(step + 1, {})
    now[0] += 50  # Nobody's time: between the steps.
  times.before_step(num_steps)
  times.close()
  return times, bound


def test_steps_on_one_core_are_compared_with_those_on_all():
  times, bound = _train(100)
  assert (times.median(), times.median(one_core=True)) == (3, 4)
  assert bound == [{4, 7}, *[{4}, {4, 7}] * 3]
  assert times.line(2, 8) == (
    '66.7%: a step takes 4000.0 ms on one core; the bubble allows 88.9%'
  )
  assert times.line(1, 8) == 'one device: nothing to compare'
  assert times.line(3, 8).startswith('not measured: 3 devices, but')


@pytest.mark.parametrize(
  ('num_steps', 'first_step'),
  [(efficiency.MIN_STEPS - 1, 0), (110, 100), (10, 10)],
)
def test_too_few_steps_leave_it_unknown(num_steps, first_step):
  times, bound = _train(num_steps, first_step)
  assert len(bound) == 1
  assert times.line(2, 8).startswith('not measured: that takes')


def test_training_goes_on_where_binding_is_forbidden():
  times, bound = _train(100, refuse=True)
  assert bound == [{4, 7}, {4}, {4, 7}]
  assert times.median() == 3
  assert times.line(2, 8).startswith('not measured')
