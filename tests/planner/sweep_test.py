# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import csv
import io
import json

import planner_testing
import pytest

from lingvo_gpipe.planner import recommend, sweep, sweep_picture
from lingvo_gpipe.planner.forecast import Speeds

_LIMIT = 3500


@pytest.fixture(scope='module')
def work():
  return planner_testing.workload()


@pytest.fixture(scope='module')
def forecasts(work):
  return sweep.sweep(
    work, [2, 4, 16], Speeds(), _LIMIT, micro_batches=[4, 8, 16]
  )


def test_each_point_is_the_best_of_its_ways(work, forecasts):
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
    all_found = recommend.forecasts(work, ways, None, _LIMIT)
    best = recommend.best(all_found)
    if best is None:
      assert not one.fits
      assert one.fullest == min(other.fullest for other in all_found)
    else:
      assert one == best
  assert {one.fits for one in forecasts} == {True, False}


def test_table_csv_and_json_say_the_same(work, forecasts):
  rows = list(csv.DictReader(io.StringIO(sweep.as_csv(work, forecasts))))
  loaded = json.loads(sweep.as_json(work, forecasts, _LIMIT))
  assert (loaded['model'], loaded['mini_batch_size']) == ('toy', 32)
  lines = sweep.as_text(work, forecasts, absolute=False).splitlines()
  assert (
    len(rows) == len(loaded['settings']) == len(lines) - 2 == len(forecasts)
  )
  for row, record, line in zip(
    rows, loaded['settings'], lines[2:], strict=True
  ):
    assert {key: str(value) for key, value in record.items()} == row
    cells = [cell.strip() for cell in line.split('|')[1:-1]]
    columns = 'devices', 'cells', 'num_micro_batches'
    assert cells[:3] == [row[name] for name in columns]
    assert (cells[-1] == 'yes') == record['fits']


@pytest.mark.skipif(not sweep_picture.available(), reason='needs matplotlib')
def test_the_picture_is_a_png_that_does_not_depend_on_the_hour(
  work, forecasts, tmp_path
):
  paths = [tmp_path / name for name in ('a.png', 'b.png')]
  for path in paths:
    sweep_picture.draw(str(path), work, forecasts, _LIMIT)
  first, second = (path.read_bytes() for path in paths)
  assert first.startswith(b'\x89PNG')
  assert first == second
