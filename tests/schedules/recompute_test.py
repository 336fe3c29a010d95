# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import PLAIN_NAMES, RECOMPUTE_POLICIES


def _recomputed(name, devices, num_micro_batches, policy):
  schedule = schedules.make_schedule(name, devices, num_micro_batches)
  return [sorted(cell) for cell in schedules.recomputed(schedule, policy)]


def test_all_are_recomputed_that_the_policy_says_but_direct_backwards():
  assert _recomputed('gpipe', [0, 1], 3, 'always') == [[0, 1, 2]] * 2
  assert _recomputed('gpipe', [0, 1], 3, 'except_last') == [[0, 1]] * 2
  assert _recomputed('gpipe', [0, 1], 3, 'never') == [[]] * 2
  # Under 1F1B the last cell has nothing to gain.
  assert _recomputed('1f1b', [0, 1, 2], 2, 'always') == [[0, 1], [0, 1], []]
  assert _recomputed('1f1b', [0, 1, 2], 2, 'except_last') == [[0], [0], []]


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
