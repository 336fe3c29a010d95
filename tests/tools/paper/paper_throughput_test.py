# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Simulated steps on stated costs, against formulas and hand counts."""

import dataclasses

import pytest
from stated_costs import equal_layers

from tools.paper.paper_comparison import ideal
from tools.paper.paper_facts import Device
from tools.paper.paper_throughput import (
  ALTERNATIVES,
  AS_STATED,
  Assumptions,
  simulate_step,
)

# 10 GFLOP take 10 ms; memory and links are no limit.
_DEVICE = Device(
  'stated',
  flops=1e12,
  memory_bandwidth=1e18,
  link_bandwidth=1e18,
  memory=10**6,
  sources='',
)


def _step(num_cells, num_micro_batches, mini_batch=32, costs=None, **fields):
  return simulate_step(
    costs or equal_layers(8),
    fields.pop('device', _DEVICE),
    num_cells,
    num_micro_batches,
    mini_batch,
    fields.pop('assumptions', AS_STATED),
  )


@pytest.mark.parametrize('num_cells', [2, 4, 8])
@pytest.mark.parametrize('num_micro_batches', [1, 4, 32])
def test_equal_cells_reach_the_bound(num_cells, num_micro_batches):
  step = _step(num_cells, num_micro_batches)
  # 32 examples, 8 layers, 10 + 10 + 20 ms each, on one device.
  alone = 32 * 8 * 0.04
  bound = ideal(num_micro_batches, num_cells)
  assert step.time == pytest.approx(alone / bound)
  slots = num_micro_batches + num_cells - 1
  assert step.shares['bubble'] == pytest.approx((num_cells - 1) / slots)
  assert step.recompute == pytest.approx(alone / 4 / num_cells)
  assert step.imbalance == pytest.approx(0, abs=1e-9)
  assert step.transfer == pytest.approx(0, abs=1e-9)
  assert sum(step.shares.values()) == pytest.approx(1)


def test_unequal_cells_wait_for_the_largest():
  # Three layers cannot be halved: 2 and 1.
  step = _step(2, 32, costs=equal_layers(3))
  assert step.sizes in {(2, 1), (1, 2)}
  # The larger one works through 32 micro-batches, the other once on top.
  assert step.time == pytest.approx(32 * 0.08 + 0.04)
  equal = 33 * 0.06
  assert step.imbalance == pytest.approx(step.time - equal, rel=1e-6)


def test_a_slow_link_carries_one_transfer_at_a_time():
  costs = equal_layers(2, output_bytes=50_000)
  # 50 ms a micro-batch, either way: longer than any task.
  device = dataclasses.replace(_DEVICE, link_bandwidth=1e6)
  step = _step(2, 4, mini_batch=4, costs=costs, device=device)
  # The link works from the end of the first forward to the last arrival, then
  # from the end of the first backward to the last.
  forward, backward, link = 0.01, 0.03, 0.05
  first_half = forward + 4 * link + forward
  second_half = backward + 4 * link + backward
  assert step.time == pytest.approx(first_half + second_half, rel=1e-6)
  without = dataclasses.replace(step, transfer=0.0)
  assert without.time == pytest.approx(5 * 0.04, rel=1e-6)


def test_a_layer_takes_the_longer_of_flops_and_bytes():
  # 600 bytes of activations twice and 4000 of weights: 5200 bytes, 52 ms.
  device = dataclasses.replace(_DEVICE, memory_bandwidth=1e5)
  step = _step(1, 1, mini_batch=1, costs=equal_layers(1), device=device)
  assert step.compute == pytest.approx(0.052 + 2 * 0.052)
  assert step.recompute == pytest.approx(0.052)
  assert step.update == pytest.approx(1000 * 28 / 1e5)
  unlimited = _step(
    1,
    1,
    mini_batch=1,
    costs=equal_layers(1),
    device=device,
    assumptions=Assumptions('', memory_bound=False),
  )
  assert unlimited.compute == pytest.approx(0.03)


def test_one_micro_batch_can_do_without_recomputation():
  kept = Assumptions('', recompute_alone=False)
  assert _step(2, 1, assumptions=kept).recompute == 0
  assert _step(2, 4, assumptions=kept).recompute > 0


def test_a_cut_by_time_evens_out_what_flops_do_not_show():
  costs = equal_layers(4)
  heavy = dataclasses.replace(costs.layers[0], activation_bytes=15_000)
  costs = dataclasses.replace(costs, layers=(heavy, *costs.layers[1:]))
  # The first layer moves 34,000 bytes, 34 ms; the others 5200, 5 of 10 ms.
  device = dataclasses.replace(_DEVICE, memory_bandwidth=1e6)
  by_flops = _step(2, 32, costs=costs, device=device)
  by_time = _step(
    2,
    32,
    costs=costs,
    device=device,
    assumptions=Assumptions('', cut_by_time=True),
  )
  assert by_flops.sizes == (2, 2)
  assert by_time.sizes == (1, 3)
  assert by_time.time < by_flops.time


def test_free_ends_take_no_time_and_count_nothing_in_the_cut():
  step = _step(
    2, 32, costs=equal_layers(6), assumptions=Assumptions('', free_ends=True)
  )
  assert step.time == pytest.approx(33 * 2 * 0.04)
  assert step.sizes == (3, 3)


def test_activations_of_twice_the_bytes_take_memory_and_links_longer():
  costs = equal_layers(2, output_bytes=50_000)
  device = dataclasses.replace(
    _DEVICE, memory_bandwidth=1e5, link_bandwidth=1e6
  )
  once, twice = (
    _step(2, 4, 4, costs, device=device, assumptions=Assumptions('', doubled=x))
    for x in (False, True)
  )
  # 2 * 600 + 4000 bytes, and 2 * 1200 + 4000.
  assert once.compute == pytest.approx(4 * 3 * 0.052)
  assert twice.compute == pytest.approx(4 * 3 * 0.064)
  assert twice.transfer > once.transfer


def test_less_efficient_devices_take_longer():
  step = _step(2, 4, assumptions=Assumptions('', efficiency=0.5))
  assert step.time == pytest.approx(2 * _step(2, 4).time, rel=1e-6)


def test_the_fitting_mini_batch_is_that_of_the_fullest_device():
  # 4 layers of 1000 parameters take 64,000 bytes of 10**6. A micro-batch of 8
  # examples takes 8 * 4 * 600 bytes, and the first cell keeps 32 inputs of 100.
  step = _step(2, 4)
  free, needed = 10**6 - 64_000, 8 * 4 * 600 + 32 * 100
  assert step.fitting_examples == 32 * free // needed
  small = dataclasses.replace(_DEVICE, memory=63_000)
  assert _step(2, 4, device=small).fitting_examples == 0


def test_micro_batches_must_divide_the_mini_batch():
  with pytest.raises(ValueError, match='num_micro_batches is 5'):
    _step(2, 5)


def test_alternatives_have_names_of_their_own_and_the_stated_one_is_first():
  names = [other.name for other in ALTERNATIVES]
  assert len(set(names)) == len(names)
  assert ALTERNATIVES[0] is AS_STATED
