# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import re

import planner_testing
import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.planner.forecast import Speeds, forecast
from lingvo_gpipe.planner.workload import Setting
from tools.benchmark import schedule_times


def _plan(name):
  setting = Setting(2, 8, name, 'never', schedules.cells_per_device(name))
  return forecast(planner_testing.uneven_workload(), setting, Speeds(1.0))


def test_an_order_that_was_sought_is_run_from_a_file(tmp_path):
  case = schedule_times._case(8, 4)
  run = schedule_times._run(case, _plan('auto'), str(tmp_path))
  schedule = schedules.make_schedule(run.schedule, (0, 1), 8)
  assert schedule.is_split
  assert (run.num_cells, run.num_devices) == (2, 2)


def test_ratios_are_medians_of_rounds_and_errors_of_the_forecast():
  first, other = schedule_times._rows(
    [
      (_plan('1f1b'), 4.0, [4.0, 2.0, 6.0]),
      (_plan('zb_h1'), 3.0, [2.0, 4.0, 3.0]),
    ]
  )
  assert (first['over_1f1b'], first['error']) == (1.0, 0.0)
  assert other['step_seconds'] == 3.0
  # Of 0.5, 2 and 0.5; not 3 / 4.
  assert other['over_1f1b'] == 0.5
  assert other['forecast_over_1f1b'] == pytest.approx(0.75)
  assert 'zb_h1' in schedule_times.as_text([first, other])


@pytest.mark.parametrize(
  'argv, words',
  [
    (['--scale=0'], '--scale'),
    (['--micro_batches=4,5'], '--micro_batches: .*5, which does not divide'),
  ],
)
def test_wrong_flags_are_refused(argv, words, refused):
  assert re.search(words, refused(schedule_times.main, argv))
