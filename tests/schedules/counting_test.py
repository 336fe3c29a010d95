# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What cells stash and recompute is counted by the schedules' names."""

import itertools

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import RECOMPUTE_POLICIES, registry
from lingvo_gpipe.schedules.simulate import peak_handed, peak_stash


@pytest.mark.parametrize('schedule', schedules.SCHEDULE_NAMES)
def test_peak_stash_is_what_the_simulator_finds(schedule):
  for num_cells, num_devices in ((1, 1), (4, 4), (4, 2), (6, 3)):
    devices = schedules.place(schedule, num_cells, num_devices)
    if not registry.fits(schedule, devices):
      continue
    for num_micro_batches in (1, 2, 7):
      simulated = schedules.simulate(
        schedules.make_schedule(schedule, devices, num_micro_batches)
      )
      assert simulated.peak_stash == schedules.count_stashed(
        schedule, devices, num_micro_batches
      )


@pytest.mark.parametrize('schedule', schedules.SCHEDULE_NAMES)
def test_what_waits_for_its_weight_gradients_is_counted(schedule):
  """Device k of K = 4 under zb_h1 has k micro-batches between B and W."""
  num_devices = 4 // schedules.cells_per_device(schedule)
  devices = schedules.place(schedule, 4, num_devices)
  handed = schedules.count_handed(schedule, devices, 8)
  assert len(handed) == 4
  expected = {'gpipe': (0,) * 4, '1f1b': (0,) * 4, 'zb_h1': (0, 1, 2, 3)}
  assert handed == expected.get(schedule, handed)
  if schedule != 'auto':
    made = schedules.make_schedule(schedule, devices, 8)
    assert handed == peak_handed(made)


@pytest.mark.parametrize('devices', [(0, 1, 2), (0, 1, 0)])
def test_a_schedule_in_a_file_need_not_train_the_first_cells(tmp_path, devices):
  schedule = schedules.make_schedule('1f1b', devices, 3, first_backward=1)
  path = tmp_path / 'frozen.json'
  path.write_text(schedules.to_json(schedule))
  name = f'file:{path}'
  peaks = schedules.count_stashed(name, devices, 3)
  assert peaks == peak_stash(schedule)
  assert schedules.count_handed(name, devices, 3) == (0, 0, 0)


def test_peak_stash_of_huge_schedules_is_the_limit():
  assert schedules.count_stashed('1f1b', [0, 1, 0, 1], 10**9) == (4, 3, 2, 1)
  assert schedules.count_stashed('gpipe', [0, 0], 10**9) == (10**9, 10**9)


@pytest.mark.parametrize('name', ['gpipe', '1f1b', 'zb_h1'])
@pytest.mark.parametrize('policy', RECOMPUTE_POLICIES)
def test_counts_agree_with_the_schedule(name, policy):
  for devices, num_micro_batches in itertools.product(
    ([0], [0, 1, 2], [0, 1, 0, 1], [0, 0, 1, 1]), (1, 2, 3, 8)
  ):
    made = schedules.make_schedule(name, devices, num_micro_batches)
    found = schedules.recomputed(made, policy)
    assert schedules.count_recomputed(
      name, devices, num_micro_batches, policy
    ) == tuple(map(len, found))


def test_long_schedules_are_counted_at_once():
  assert schedules.count_recomputed(
    '1f1b', range(1000), 1_000_000, 'always'
  ) == (*[1_000_000] * 999, 0)
  shared = [k % 500 for k in range(1000)]
  assert schedules.count_recomputed('1f1b', shared, 10_000, 'always') == (
    (10_000,) * 1000
  )
