# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import planner_testing
import pytest

from lingvo_gpipe.planner import recommend, report
from lingvo_gpipe.planner.forecast import forecast
from lingvo_gpipe.schedules import WHOLE_NAMES

_K = 4


def _plan(device_memory=None, show_all=False, **changes):
  work = planner_testing.workload(**changes)
  forecasts = tuple(
    forecast(work, way, None, device_memory)
    for way in recommend.settings(work, _K)
  )
  return report.PlanReport(work, forecasts, device_memory, show_all)


@pytest.fixture(scope='module')
def limited():
  return _plan(3500)


def _rows(table):
  return [
    [cell.strip() for cell in line.split('|')[1:-1]]
    for line in table.splitlines()
    if line.startswith('|')
  ]


def test_the_text_has_cut_memory_ways_and_recommendation(limited):
  text = limited.to_text()
  assert 'toy: 200 parameters in 8 layers, mini-batch of 32' in text
  assert 'K = 8 cells on 4 devices, cut by flops' in text
  assert (
    f'Recommended: schedule={limited.chosen.setting.schedule}, '
    'num_partitions=8, num_micro_batches=' in text
  )
  assert 'Times are relative' in text


def test_each_devices_memory_adds_up(limited):
  header, _, *rows = _rows(limited.memory_text(limited.shown))
  assert header[-1] == 'of 3.42 KiB'
  assert len(rows) == _K
  for device, row in zip(limited.shown.devices, rows, strict=True):
    assert row[-1] == f'{device.total / 3500:.0%}'
  largest = max(limited.forecasts, key=lambda one: one.fullest)
  assert 'too much' in limited.memory_text(largest)


def test_ways_that_do_not_fit_are_left_out_or_have_no_times(limited):
  header, _, *rows = _rows(limited.ways_text())
  assert header[:3] == ['schedule', 'K', 'recompute']
  fit = [one for one in limited.forecasts if one.fits]
  assert 0 < len(rows) <= len(fit) + 1
  assert [row[-1] for row in rows].count('recommended') == 1
  assert 'as registered' in limited.ways_text()
  assert 'settings are hidden: they do not fit' in limited.ways_text()
  everything = _rows(_plan(3500, show_all=True).ways_text())[2:]
  assert len(everything) == len(limited.forecasts)
  for row in everything:
    assert (row[5] == '-') == (row[10] == 'no')


def test_it_says_where_halves_of_the_backward_pass_are_not_known(limited):
  assert limited.chosen.setting.schedule not in WHOLE_NAMES
  assert 'each counts as half' in limited.verdict()
  work = limited.workload
  layers = (dataclasses.replace(x, weight_share=0.4) for x in work.layers)
  known = dataclasses.replace(work, layers=tuple(layers))
  plan = dataclasses.replace(limited, workload=known)
  assert 'counts as half' not in plan.verdict()


def test_if_nothing_fits_the_least_is_named():
  plan = _plan(100)
  assert plan.shown.fullest == min(one.fullest for one in plan.forecasts)
  assert 'None of these fits' in plan.verdict()


def test_what_is_not_known_is_said():
  text = _plan(micro_batch_size=None, knows_activations=False).to_text()
  assert 'mini-batch of unknown size' in text
  assert 'give --input_shapes' in text
