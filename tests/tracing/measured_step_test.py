# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import trace_testing as tt

from lingvo_gpipe.tracing.measured_step import transfer_times

MS = tt.MS


def _measured(of=None, **kwargs):
  emitted = tt.emitted(workers='transfer' in kwargs)
  return tt.step(emitted, of or tt.durations(), **kwargs)


def test_without_delays_measured_and_simulated_agree():
  found = _measured(tt.durations((1, 1.5), (2, 3)))
  assert found.bubble == pytest.approx(found.simulated.bubble, abs=1e-6)
  assert found.simulated.step_time == pytest.approx(found.length)
  assert found.delay == pytest.approx(0, abs=1e-8)
  assert [p.task for p in found.critical_path] == list(
    found.simulated.critical_path
  )


def test_equal_tasks_have_the_bubble_of_the_schedule():
  found = _measured(tt.durations((1, 1), (1, 1)))
  assert found.bubble == pytest.approx(1 / 5)
  assert found.utilisation == pytest.approx([0.8, 0.8])
  assert found.concurrency == pytest.approx(1.6)


def test_delays_are_in_the_measured_bubble_and_not_in_the_simulated_one():
  found = _measured(delay=0.25 * MS)
  assert found.delay == pytest.approx(0.25 * MS)
  assert found.bubble > found.simulated.bubble + 0.05
  on_path = found.critical_path
  total = sum(found.duration(p.task) + p.transfer + p.delay for p in on_path)
  assert total == pytest.approx(found.length)
  delays = [p.delay for p in on_path[1:]]
  assert delays == pytest.approx([0.25 * MS] * len(delays))


def test_transfers_are_in_both_and_on_the_critical_path():
  found = _measured(transfer=0.5 * MS)
  for (needed, task), arrived in found.arrival.items():
    assert needed.cell != task.cell
    assert arrived - found.end[needed] == pytest.approx(0.5 * MS, abs=2e-6)
  assert len(found.arrival) == 8
  assert transfer_times([found]) == pytest.approx([0.5 * MS], abs=2e-6)
  assert found.bubble == pytest.approx(found.simulated.bubble, abs=1e-3)
  # The first forward has to cross, and the last backward.
  assert sum(p.transfer for p in found.critical_path) >= 0.99 * MS
