# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What cells stash and recompute is counted by the schedules' names."""

import itertools

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import RECOMPUTE_POLICIES, registry
from lingvo_gpipe.schedules.simulate import peak_handed, peak_stash


@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_counts_agree_with_the_schedule(name):
  every = ([0], [0, 1, 2], [0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 1, 0])
  for devices, num_micro_batches in itertools.product(every, (1, 2, 3, 8)):
    if not registry.fits(name, devices):
      continue
    made = schedules.make_schedule(name, devices, num_micro_batches)
    for policy in RECOMPUTE_POLICIES:
      again = tuple(map(len, schedules.recomputed(made, policy)))
      expected = peak_stash(made), peak_handed(made), again
      found = schedules.count(name, devices, num_micro_batches, policy)
      assert found.stashed == expected[0]
      if name != 'auto':
        assert found == expected
      for bounds, counts in zip(found, expected, strict=True):
        assert all(a >= b for a, b in zip(bounds, counts, strict=True))


@pytest.mark.parametrize('devices', [(0, 1, 2), (0, 1, 0)])
def test_a_schedule_in_a_file_need_not_train_the_first_cells(tmp_path, devices):
  schedule = schedules.make_schedule('1f1b', devices, 3, first_backward=1)
  path = tmp_path / 'frozen.json'
  path.write_text(schedules.to_json(schedule))
  found = schedules.count(f'file:{path}', devices, 3, 'always')
  assert found.stashed == peak_stash(schedule)
  assert found.handed == (0, 0, 0)


def test_long_schedules_are_counted_at_once():
  found = schedules.count('1f1b', range(1000), 1_000_000, 'always')
  assert found.stashed == tuple(range(1000, 0, -1))
  assert found.recomputed == (*[1_000_000] * 999, 0)
  shared = schedules.count('1f1b', [0, 1, 0, 1], 10**9, 'always')
  assert shared.stashed == (4, 3, 2, 1)
  assert shared.recomputed == (10**9,) * 4
