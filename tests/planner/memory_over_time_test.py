# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import planner_testing
import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.planner.forecast import Speeds, forecast
from lingvo_gpipe.planner.memory_over_time import memory_over_time
from lingvo_gpipe.planner.workload import Setting

_K, _M = 4, 8
_POLICIES = (*schedules.RECOMPUTE_POLICIES, schedules.FIT)


def _over_time(schedule, recompute, cells_per_device=1):
  work = planner_testing.uneven_workload()
  setting = Setting(_K, _M, schedule, recompute, cells_per_device)
  limit = 9000 if recompute == schedules.FIT else None
  one = forecast(work, setting, Speeds(1.0), limit)
  return one, memory_over_time(one.partition, one.simulate())


@pytest.mark.parametrize('recompute', _POLICIES)
@pytest.mark.parametrize(
  ('schedule', 'cells'),
  [('gpipe', 1), ('1f1b', 1), ('zb_h1', 1), ('interleaved_1f1b', 2)]
  + [('zb_v', 2), ('v_half', 2)],
)
def test_the_peak_of_each_device_is_what_it_needs(schedule, cells, recompute):
  one, devices = _over_time(schedule, recompute, cells)
  # Under zb_h1, those that wait and the last are not there together; nor are
  # the largest values of cells that share a device.
  is_exact = cells == 1 and (schedule, recompute) != ('zb_h1', 'except_last')
  for need, held in zip(one.devices, devices, strict=True):
    peak = max(moment.total for moment in held)
    if is_exact:
      assert peak == need.total
    assert 0.7 * need.total < peak <= need.total


def test_at_the_end_the_state_is_left():
  one, devices = _over_time('1f1b', 'always')
  for need, held in zip(one.devices, devices, strict=True):
    assert held[0].time == 0
    assert held[-1].time == one.step_time
    assert [held[-1].stash, held[-1].activations] == [0, 0]
    assert held[-1].state <= need.weights + need.gradients + need.slots
    times = [moment.time for moment in held]
    assert times == sorted(set(times))


def test_what_waits_is_stash_and_what_runs_has_activations():
  _, devices = _over_time('gpipe', 'always')
  first = devices[0]
  # The inputs of all micro-batches before the first backward task.
  assert max(moment.stash for moment in first) == _M * 10
  _, devices = _over_time('gpipe', 'never')
  # Outputs that nothing keeps.
  assert {moment.activations for moment in devices[0]} == {0, 200}
