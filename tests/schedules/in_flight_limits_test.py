# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the limits on what a schedule may stash."""

import random

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import stash


@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_cells_on_their_own_devices_reach_their_limits(name):
  for num_cells in (1, 2, 3, 5, 9):
    for num_micro_batches in (1, 2, 4, 9, 20):
      limits = schedules.in_flight_limits(
        name, range(num_cells), num_micro_batches
      )
      schedule = schedules.make_schedule(
        name, range(num_cells), num_micro_batches
      )
      assert tuple(limits) == stash.peak_stash(schedule)


@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_no_cell_exceeds_its_limit_in_any_arrangement(name):
  rng = random.Random(1)
  for _ in range(100):
    devices = [rng.randrange(4) for _ in range(rng.randint(1, 9))]
    num_micro_batches = rng.randint(1, 12)
    limits = schedules.in_flight_limits(name, devices, num_micro_batches)
    schedule = schedules.make_schedule(name, devices, num_micro_batches)
    stashed = stash.peak_stash(schedule)
    assert all(s <= limit for s, limit in zip(stashed, limits, strict=True))


@pytest.mark.parametrize('name', schedules.SCHEDULE_NAMES)
def test_limits_depend_only_on_the_cells_that_follow(name):
  long = schedules.in_flight_limits(name, range(12), 5)
  for num_cells in range(1, 12):
    limits = schedules.in_flight_limits(name, range(num_cells), 5)
    assert limits == long[-num_cells:]


def test_bad_arguments_are_named():
  with pytest.raises(ValueError, match="'zigzag'"):
    schedules.in_flight_limits('zigzag', [0], 1)
  with pytest.raises(ValueError, match='num_micro_batches is 0'):
    schedules.in_flight_limits('gpipe', [0], 0)
