# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Why a schedule is shorter than another."""

import hypothesis
import pytest
import random_orders
from hypothesis import strategies as st

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import comparison


def _run(name, problem):
  schedule = schedules.make_schedule(
    name, problem.cell_devices, problem.num_micro_batches, costs=problem
  )
  return comparison.Run(name, problem, problem.simulate(schedule))


def _equal(transfer=0):
  return schedules.OrderProblem((0, 1, 2, 3), 8, transfers=(transfer,) * 3)


def test_it_says_what_is_off_the_shorter_path_and_who_waits():
  text = comparison.why(_run('1f1b', _equal()), _run('zb_h1', _equal()))
  for line in (
    'zb_h1 takes 27 and 1f1b takes 33: zb_h1 is shorter by 6 (18.2%).',
    '  forward tasks: 8 in zb_h1, 11 in 1f1b, 3 less.',
    '  input gradients: 11 in zb_h1, 11 in 1f1b.',
    '  weight gradients: 8 in zb_h1, 11 in 1f1b, 3 less.',
    '  device 3: F3.0 B3.0',
    '  device 0 waits 9: 9 for gradients from device 1.',
    '  device 1 waits 9: 1 for activations from device 0, 6 for gradients from '
    'device 2, 2 after its last task.',
  ):
    assert line in text.splitlines()


def test_transfers_are_on_the_path_and_in_the_waits():
  run = _run('gpipe', _equal(0.5))
  assert comparison.on_path(run)['T'] == 3
  text = comparison.why(run, run)
  assert '0.5 for transfers' in text and 'equally long: ' in text


@hypothesis.given(st.integers(0, 2**32).map(random_orders.problem))
def test_path_and_waits_add_up_to_the_makespan(problem):
  for name in ('1f1b', 'gpipe'):
    run = _run(name, problem)
    timeline = run.timeline
    total = pytest.approx(float(timeline.step_time))
    assert sum(comparison.on_path(run).values()) == total
    for device, busy in enumerate(timeline.device_busy):
      waited = sum(comparison.waits(run, device).values())
      assert float(waited + busy) == total
