# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Simulated steps on stated costs, against formulas and hand counts."""

import dataclasses

import pytest
from stated_costs import equal_layers

from tools.paper.facts import Device
from tools.paper.throughput import ideal, simulate_step

# 10 GFLOP take 10 ms; memory and links are no limit.
_DEVICE = Device(
  'stated', flops=1e12, memory_bandwidth=1e18, link_bandwidth=1e18, sources=''
)


def _step(num_cells, num_micro_batches, mini_batch=32, costs=None, **fields):
  return simulate_step(
    costs or equal_layers(8),
    fields.pop('device', _DEVICE),
    num_cells,
    num_micro_batches,
    mini_batch,
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
  assert step.parts['bubble'] / step.time == pytest.approx(
    (num_cells - 1) / slots
  )
  assert step.parts['recompute'] == pytest.approx(alone / 4 / num_cells)
  assert step.parts['imbalance'] == pytest.approx(0, abs=1e-9)
  assert step.parts['transfer'] == pytest.approx(0, abs=1e-9)


def test_unequal_cells_wait_for_the_largest():
  # Three layers cannot be halved: 2 and 1.
  step = _step(2, 32, costs=equal_layers(3))
  assert step.sizes in {(2, 1), (1, 2)}
  # The larger one works through 32 micro-batches, the other once on top.
  assert step.time == pytest.approx(32 * 0.08 + 0.04)
  equal = 33 * 0.06
  assert step.parts['imbalance'] == pytest.approx(step.time - equal, rel=1e-6)


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
  without = step.time - step.parts['transfer']
  assert without == pytest.approx(5 * 0.04, rel=1e-6)


def test_a_layer_takes_the_longer_of_flops_and_bytes():
  # 600 bytes of activations twice and 4000 of weights: 5200 bytes, 52 ms.
  device = dataclasses.replace(_DEVICE, memory_bandwidth=1e5)
  step = _step(1, 1, mini_batch=1, costs=equal_layers(1), device=device)
  assert step.parts['compute'] == pytest.approx(0.052 + 2 * 0.052)
  assert step.parts['recompute'] == pytest.approx(0.052)
  assert step.parts['update'] == pytest.approx(1000 * 28 / 1e5)
