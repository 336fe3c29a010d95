# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import planner_testing
import pytest

from lingvo_gpipe.planner import recommend, sweep
from lingvo_gpipe.planner.forecast import Speeds, forecast

_LIMIT = 3500


@pytest.fixture(scope='module')
def forecasts():
  work = planner_testing.workload()
  return sweep.sweep(
    work, [2, 4, 16], Speeds(), _LIMIT, micro_batches=[4, 8, 16]
  )


def test_each_point_is_the_best_of_its_ways(forecasts):
  work = forecasts[0].workload
  # 16 devices are more than the layers.
  points = [
    (one.setting.num_devices, one.setting.num_micro_batches)
    for one in forecasts
  ]
  assert points == [(2, 4), (2, 8), (2, 16), (4, 4), (4, 8), (4, 16)]
  for one in forecasts:
    ways = recommend.settings(
      work,
      one.setting.num_devices,
      micro_batches=[one.setting.num_micro_batches],
    )
    all_found = [forecast(work, way, None, _LIMIT) for way in ways]
    best = recommend.best(all_found)
    if best is None:
      assert not one.fits
      assert one.fullest == min(other.fullest for other in all_found)
    else:
      assert one == best
  assert {one.fits for one in forecasts} == {True, False}


def test_table_and_json_say_the_same(forecasts):
  loaded = json.loads(sweep.as_json(forecasts, _LIMIT))
  assert (loaded['model'], loaded['mini_batch_size']) == ('toy', 32)
  lines = sweep.as_text(forecasts).splitlines()[2:]
  for record, line in zip(loaded['settings'], lines, strict=True):
    cells = [cell.strip() for cell in line.split('|')[1:-1]]
    columns = 'devices', 'cells', 'num_micro_batches'
    assert cells[:3] == [str(record[name]) for name in columns]
    assert (cells[-1] == 'yes') == record['fits']


def test_the_picture_is_a_png_that_stays_the_same(forecasts, tmp_path):
  pytest.importorskip('matplotlib')
  path = tmp_path / 'a.png'
  sweep.draw(str(path), forecasts, _LIMIT)
  first = path.read_bytes()
  sweep.draw(str(path), forecasts, _LIMIT)
  assert first.startswith(b'\x89PNG')
  assert first == path.read_bytes()
