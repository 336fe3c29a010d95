# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import planner_testing
import pytest

from lingvo_gpipe.planner import recommend
from lingvo_gpipe.planner.forecast import forecast
from lingvo_gpipe.schedules import FIT, PLAIN_NAMES, RECOMPUTE_POLICIES

_K = 4


def _forecasts(device_memory=None, work=None, **chosen):
  work = work or planner_testing.workload()
  ways = recommend.settings(work, _K, **chosen)
  return [forecast(work, way, None, device_memory) for way in ways]


@pytest.fixture(scope='module')
def free():
  return _forecasts()


def test_all_ways_are_looked_at_unless_some_are_named():
  work = planner_testing.workload()
  ways = recommend.settings(work, _K)
  assert len(ways) == len(set(ways)) == 6 * 7 * 3
  limited = recommend.settings(work, _K, device_memory=3000)
  assert len(limited) == 6 * 7 * 4
  assert limited[3].recompute == FIT
  unknown = planner_testing.workload(knows_activations=False)
  # Recomputation is not weighed against what is not known.
  ways = recommend.settings(unknown, _K)
  assert {way.recompute for way in ways} == {'always'}
  named = recommend.settings(
    work, _K, 2, micro_batches=[2], schedules=['1f1b'], recompute=['never']
  )
  assert [str(way) for way in named] == ['1f1b, M = 2, recompute never']
  assert named[0].num_cells == 8


@pytest.mark.parametrize('device_memory', [2800, 3500, 4500, 12000])
def test_fit_is_no_slower_than_any_policy_that_fits(device_memory):
  forecasts = _forecasts(
    device_memory,
    planner_testing.uneven_workload(),
    micro_batches=[4, 16],
    recompute=[*RECOMPUTE_POLICIES, FIT],
  )
  gains = []
  for i in range(0, len(forecasts), 4):
    *others, fit = forecasts[i : i + 4]
    assert fit.setting.recompute == FIT
    times = [other.step_time for other in others if other.fits]
    assert fit.fits == bool(times)
    if times:
      gains.append(1 - fit.step_time / min(times))
  assert gains
  assert min(gains) > -1e-9
  if device_memory == 4500:
    assert max(gains) > 0.05
    assert recommend.best(forecasts).setting.recompute == FIT


def test_a_schedule_has_the_cells_on_each_device_that_it_wants():
  ways = recommend.settings(planner_testing.workload(), _K)
  assert {way.schedule: way.num_cells for way in ways} == {
    'gpipe': 4,
    '1f1b': 4,
    'interleaved_1f1b': 8,
    'zb_h1': 4,
    'zb_v': 8,
    'v_half': 8,
    'v_min': 8,
  }
  # Seven layers do not make eight cells.
  ways = recommend.settings(planner_testing.workload(num_layers=7), _K)
  assert {way.schedule for way in ways} == {'gpipe', '1f1b', 'zb_h1'}


def test_the_order_found_is_one_of_the_ways_where_it_can_gain(free):
  named = _forecasts(micro_batches=[8], schedules=PLAIN_NAMES)
  best = recommend.best(named)
  *others, auto = recommend.with_auto(named)
  assert others == named
  assert auto.setting == dataclasses.replace(best.setting, schedule='auto')
  assert auto.bubble < 0.2
  assert recommend.with_auto([]) == []
  assert recommend.best(free).setting.schedule == 'zb_v'
  assert recommend.with_auto(free) == free


def test_the_best_is_within_2_percent_of_the_quickest_and_fits(free):
  for forecasts in (free, _forecasts(3000)):
    best = recommend.best(forecasts)
    assert best.fits
    fitting = [one for one in forecasts if one.fits]
    quickest = min(one.step_time for one in fitting)
    assert best.step_time <= 1.02 * quickest
    for one in fitting:
      if one.setting.num_micro_batches < best.setting.num_micro_batches:
        assert one.step_time > 1.02 * quickest


def test_of_equal_ones_the_simplest_is_best():
  [one] = _forecasts(
    micro_batches=[1], recompute=['never'], schedules=['gpipe']
  )
  assert one.step_time
  equal = []
  for name in ('auto', 'gpipe', 'zb_h1', '1f1b'):
    setting = dataclasses.replace(one.setting, schedule=name)
    equal.append(dataclasses.replace(one, setting=setting))
    # As if it took as long.
    vars(equal[-1]).update(_simulated=one._simulated)
  for name in ('1f1b', 'gpipe', 'zb_h1', 'auto'):
    best = recommend.best(equal)
    assert best.setting.schedule == name
    equal.remove(best)


def test_the_reason_says_what_others_would_need_or_take():
  forecasts = _forecasts(
    3500,
    micro_batches=[4, 8, 16],
    schedules=PLAIN_NAMES,
    recompute=['always', 'never'],
  )
  best = recommend.best(forecasts)
  reason = recommend.reason(best, forecasts)
  assert str(best.setting) == '1f1b, M = 16, recompute always'
  assert "Recompute 'always', because 'never' would need" in reason
  assert "'1f1b', because 'gpipe' would take 2.7% longer" in reason
  assert 'num_micro_batches 16, because 8 would take' in reason
  assert reason.endswith('.')
  free = _forecasts(schedules=PLAIN_NAMES)
  reason = recommend.reason(recommend.best(free), free)
  # By nearly a third: the last cell would not recompute.
  assert "'always' would take 31.4% longer" in reason
  assert "'1f1b', because 'gpipe' would take as long and need" in reason
  assert 'only' in recommend.reason(free[0], free[:1])
