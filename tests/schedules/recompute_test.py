# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import PLAIN_NAMES, RECOMPUTE_POLICIES


def _recomputed(name, devices, num_micro_batches, policy):
  schedule = schedules.make_schedule(name, devices, num_micro_batches)
  return [sorted(cell) for cell in schedules.recomputed(schedule, policy)]


def test_fill_drain_recomputes_what_the_policy_says():
  assert _recomputed('gpipe', [0, 1], 3, 'always') == [[0, 1, 2]] * 2
  assert _recomputed('gpipe', [0, 1], 3, 'except_last') == [[0, 1]] * 2
  assert _recomputed('gpipe', [0, 1], 3, 'never') == [[]] * 2


def test_under_1f1b_the_last_cell_has_nothing_to_gain():
  assert _recomputed('1f1b', [0, 1, 2], 2, 'always') == [[0, 1], [0, 1], []]
  assert _recomputed('1f1b', [0, 1, 2], 2, 'except_last') == [[0], [0], []]
  assert _recomputed('1f1b', [0], 4, 'always') == [[]]


@pytest.mark.parametrize('name', PLAIN_NAMES)
def test_one_micro_batch_is_recomputed_if_the_policy_says_so(name):
  assert _recomputed(name, [0, 1], 1, 'always') == [[0], [0]]
  assert _recomputed(name, [0, 1], 1, 'except_last') == [[], []]


@pytest.mark.parametrize('policy', RECOMPUTE_POLICIES)
def test_evaluation_recomputes_nothing(policy):
  schedule = schedules.make_schedule('1f1b', [0, 1], 4, forward_only=True)
  assert schedules.recomputed(schedule, policy) == (frozenset(),) * 2


def test_on_a_shared_device_only_direct_backwards_are_spared():
  devices = [0, 1, 0, 1]
  schedule = schedules.make_schedule('1f1b', devices, 5)
  row = ' '.join(map(str, schedule.device_tasks[1]))
  found = schedules.recomputed(schedule, 'always')
  assert found[:3] == (frozenset(range(5)),) * 3
  assert found[3] == {m for m in range(5) if f'F3.{m} B3.{m}' not in row}
  assert len(found[3]) < 5


@pytest.mark.parametrize('name', ['gpipe', '1f1b', 'zb_h1'])
@pytest.mark.parametrize('policy', RECOMPUTE_POLICIES)
def test_counts_agree_with_the_schedule(name, policy):
  for devices, num_micro_batches in itertools.product(
    ([0], [0, 1, 2], [0, 1, 0, 1], [0, 0, 1, 1]), (1, 2, 3, 8)
  ):
    found = _recomputed(name, devices, num_micro_batches, policy)
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


def test_an_unknown_policy_is_named():
  schedule = schedules.make_schedule('gpipe', [0], 1)
  with pytest.raises(ValueError, match="no recompute policy 'sometimes'"):
    schedules.recomputed(schedule, 'sometimes')
  with pytest.raises(ValueError, match="no recompute policy 'sometimes'"):
    schedules.count_recomputed('gpipe', [0], 1, 'sometimes')
