# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import planner_testing
import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.planner.forecast import Speeds, forecast
from lingvo_gpipe.planner.workload import Setting

_K, _M = 4, 8


def _forecast(schedule='1f1b', recompute='never', speeds=None, **more):
  return forecast(
    planner_testing.workload(),
    Setting(_K, _M, schedule, recompute),
    speeds,
    **more,
  )


@pytest.mark.parametrize('schedule', schedules.PLAIN_NAMES)
def test_equal_cells_have_the_bubble_of_the_formula(schedule):
  result = _forecast(schedule)
  assert result.bubble == pytest.approx((_K - 1) / (_M + _K - 1))
  assert result.speedup == pytest.approx(_K * _M / (_M + _K - 1))
  # Relative: one device takes 1.
  assert result.step_time == pytest.approx((_M + _K - 1) / (_K * _M))


def test_speeds_make_seconds_and_transfers_take_time():
  plain = _forecast(speeds=Speeds(0.5))
  # A layer's forward takes half a second, a cell has two layers.
  assert plain.step_time == pytest.approx(0.5 * 2 * 3 * (_M + _K - 1))
  latency = _forecast(speeds=Speeds(0.5, None, 0.25))
  assert latency.step_time >= plain.step_time + 2 * (_K - 1) * 0.25
  slow = _forecast(speeds=Speeds(0.5, 40.0))  # 10 bytes in 0.25 s.
  assert slow.step_time == pytest.approx(latency.step_time)
  assert slow.speedup < plain.speedup


def test_memory_by_kind_adds_up_to_the_memory_models():
  result = _forecast(recompute='always')
  totals = tuple(device.total for device in result.devices)
  assert totals == result.partition.device_memory
  first = result.devices[0]
  # Sums of gradients, and those of the newest micro-batch.
  assert (first.weights, first.gradients, first.slots) == (200, 400, 400)
  assert (first.stash, first.activations) == (4 * 10, 2000)
  never = _forecast(recompute='never').devices[0]
  assert (never.stash, never.activations) == (4 * 2010, 0)
  assert result.fullest == max(result.partition.device_memory)


def test_devices_with_several_cells_hold_all_and_run_one():
  setting = Setting(2, _M, '1f1b', 'always', cells_per_device=2)
  result = forecast(planner_testing.workload(), setting)
  totals = tuple(device.total for device in result.devices)
  assert totals == result.partition.device_memory
  for device in result.devices:
    assert (device.weights, device.activations) == (400, 2000)
    assert device.gradients == 400 + 200


def test_a_limit_moves_the_cut_or_is_missed():
  needs = _forecast(recompute='always').fullest
  assert _forecast(recompute='always', device_memory=needs).fits
  tight = _forecast(recompute='always', device_memory=needs - 1)
  # Two layers a cell is the least there is.
  assert not tight.fits
  assert tight.fullest == needs


@pytest.mark.parametrize('share', [0, 0.25, 0.5])
def test_weight_gradients_take_their_part_of_the_backward_pass(share):
  """The bubble of zb_h1 is (K - 1)(F + B - W)."""
  work = planner_testing.workload()
  layers = tuple(
    dataclasses.replace(layer, weight_share=share) for layer in work.layers
  )
  work = dataclasses.replace(work, layers=layers)
  result = forecast(work, Setting(_K, _M, 'zb_h1', 'never'), Speeds(1.0))
  # A cell has two layers of forward 1 and backward 2.
  bubble = (_K - 1) * 2 * (1 + 2 - 2 * 2 * share)
  assert result.step_time == pytest.approx(_M * 6 + bubble)


def test_what_is_not_kept_runs_again():
  always, last, never = (
    _forecast('gpipe', policy) for policy in ('always', 'except_last', 'never')
  )
  assert always.step_time / never.step_time == pytest.approx(4 / 3)
  # Of F, F again and B, which take 1, 1 and 2.
  assert always.recomputation == pytest.approx((1 - always.bubble) / 4)
  assert {device.kept for device in always.devices} == {0}
  assert never.step_time < last.step_time < always.step_time
  assert {device.kept for device in last.devices} == {1 / _M}
  assert never.recomputation == 0
  assert {device.kept for device in never.devices} == {1}
  # One of two equal layers, under gpipe of each of eight micro-batches.
  fit = _forecast('gpipe', schedules.FIT, device_memory=1000 + 12 * 1000)
  assert fit.recomputation == pytest.approx((1 - fit.bubble) / 7)
  assert {device.kept for device in fit.devices} == {0.5}
