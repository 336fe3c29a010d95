# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from tools.benchmark.speed_bound import bound


@pytest.mark.parametrize(
  ('schedule', 'recompute'),
  [('gpipe', 'always'), ('gpipe', 'never'), ('1f1b', 'never')],
)
def test_equal_cells_leave_fill_and_drain(schedule, recompute):
  found = bound([(1.0, 2.0)] * 4, schedule, recompute, 12, 4)
  assert found == pytest.approx(12 / (12 + 4 - 1))


def test_the_last_of_equal_cells_waits_where_it_need_not_recompute():
  # The first works 4 a micro-batch, and waits 2 for the first one to return.
  found = bound([(1.0, 2.0)] * 2, '1f1b', 'always', 10, 2)
  assert found == pytest.approx(10 * (4 + 3) / (2 * (10 * 4 + 2)))


def test_one_micro_batch_keeps_one_device_busy_at_a_time():
  assert bound([(1.0, 2.0)] * 4, 'gpipe', 'never', 1, 4) == pytest.approx(1 / 4)


def test_unequal_cells_lower_the_bound():
  # The second cell is never idle but while the first one starts and ends.
  found = bound([(1.0, 1.0), (3.0, 3.0)], '1f1b', 'never', 10, 2)
  assert found == pytest.approx((10 * 8) / (2 * (10 * 6 + 2)))


def test_recomputation_of_all_but_the_last_counts_as_such():
  # One cell: all its work is done, whatever it is.
  assert bound([(1.0, 2.0)], 'gpipe', 'except_last', 4, 1) == 1
  # Two: device 0 is done after F0 F1, the wait for device 1's B0, B0, B1.
  found = bound([(1.0, 2.0)] * 2, 'gpipe', 'except_last', 2, 2)
  assert found == pytest.approx((2 * (2 * 1 + 3 + 2)) / (2 * (6 + 3 + 2)))


def test_more_devices_than_cores_can_fill_the_cores():
  assert bound([(1.0, 2.0)] * 4, 'gpipe', 'always', 8, 2) == 1
  # But not with so few micro-batches that only some devices have work.
  assert bound([(1.0, 2.0)] * 4, 'gpipe', 'always', 1, 2) == pytest.approx(0.5)


def test_an_unknown_policy_is_refused():
  with pytest.raises(ValueError, match="policy 'some'"):
    bound([(1.0, 2.0)], 'gpipe', 'some', 4, 2)
