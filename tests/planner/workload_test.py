# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import planner_testing
import pytest

from lingvo_gpipe.cutting.skips import Skip
from lingvo_gpipe.planner.workload import Setting


def test_the_mini_batch_stays_and_micro_batches_share_it_out():
  work = planner_testing.workload(skips=(Skip(0, (3,), 20),))
  assert work.mini_batch_size == 32
  for m, size in ((1, 32), (8, 4), (32, 1)):
    assert work.micro_batch(m) == size
    layers = work.layers_for(m)
    assert layers[0].activation_bytes == 250 * size
    # Weights stay, and all micro-batches together take as long.
    assert layers[0].state_bytes == 400
    assert sum(layer.forward for layer in layers) * m == 8 * 8
    spec = work.spec(Setting(2, m, '1f1b', 'always'))
    assert spec.input_bytes == -(-10 * size // 4)
    assert spec.skips[0].num_bytes == 5 * size
  assert work.one_device_cost == 8 * 8 * 3
  with pytest.raises(ValueError, match=r'5 does not divide.* 1, 2, 4, 8, 16'):
    work.layers_for(5)


def test_choices_are_divisors_and_as_registered():
  assert planner_testing.workload().choices(8) == (1, 2, 4, 8, 16, 32)
  work = planner_testing.workload(num_micro_batches=3, micro_batch_size=20)
  choices = work.choices(4)
  assert 3 in choices and len(choices) <= 9
  assert all(60 % m == 0 for m in choices)
  # More than 16 for each cell gain nothing.
  assert max(planner_testing.workload(micro_batch_size=800).choices(2)) == 32
  assert planner_testing.workload(num_micro_batches=32).choices(1)[-1] == 32
  # Small micro-batches can be left out.
  assert planner_testing.workload(min_examples=8).choices(8) == (1, 2, 4)
  assert planner_testing.workload(min_examples=100).choices(8) == (1,)


def test_without_a_size_only_the_registered_number_is_looked_at():
  work = planner_testing.workload(micro_batch_size=None)
  assert work.mini_batch_size is None
  assert work.choices(4) == (8,)
  assert work.layers_for(16)[0].activation_bytes == 500
