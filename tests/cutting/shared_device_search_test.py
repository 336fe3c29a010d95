# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the search for cells that share devices."""

import itertools
import random

from lingvo_gpipe.cutting import best_cut, pipeline_spec
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.pipeline_spec import PipelineSpec
from lingvo_gpipe.cutting.shared_device_search import (
  SharedDeviceSearch,
  fits,
)


def _random_problem(rng):
  spec = PipelineSpec(
    num_devices=rng.randint(2, 3),
    cells_per_device=2,
    num_micro_batches=3,
    schedule=rng.choice(['gpipe', '1f1b']),
  )
  layers = [
    LayerCost(
      f'layer{i}',
      forward=rng.randint(1, 9),
      weight_bytes=rng.randint(0, 20),
      activation_bytes=rng.randint(0, 9),
      output_bytes=rng.randint(0, 5),
    )
    for i in range(rng.randint(8, 14))
  ]
  memory = pipeline_spec.cell_memory(layers, spec)
  return pipeline_spec.spec_problem(layers, spec, memory), spec.num_devices


def _largest_cost(problem, positions):
  return max(
    problem.costs_before(k)[b] - problem.costs_before(k)[a]
    for k, (a, b) in enumerate(itertools.pairwise(positions))
  )


def test_a_search_with_little_room_finds_cuts_that_fit_and_admits_it():
  rng = random.Random(1)
  num_found = num_dropped = 0
  for _ in range(150):
    problem, num_devices = _random_problem(rng)
    limit = rng.randint(100, 260)
    exact = SharedDeviceSearch(problem, num_devices, limit)
    best = exact.best()
    assert not exact.has_dropped
    hurried = SharedDeviceSearch(problem, num_devices, limit, max_ways=1)
    found = hurried.best()
    num_dropped += hurried.has_dropped
    if best is None:
      assert found is None
    if found is None:
      assert best is None or hurried.has_dropped
      continue
    num_found += 1
    assert fits(problem, found.positions, num_devices, limit)
    assert _largest_cost(problem, found.positions) >= _largest_cost(
      problem, best.positions
    )
    if not hurried.has_dropped:
      assert found.values == best.values
  assert num_found > 30
  assert num_dropped > 30


def test_without_a_binding_limit_sharing_devices_changes_nothing():
  rng = random.Random(2)
  for _ in range(50):
    problem, num_devices = _random_problem(rng)
    free = best_cut.best_cut(problem, num_devices, None)
    loose = best_cut.best_cut(problem, num_devices, 10**6)
    assert free == loose
    search = SharedDeviceSearch(problem, num_devices, 10**6).best()
    assert _largest_cost(problem, search.positions) == _largest_cost(
      problem, free.positions
    )


def test_fits_adds_up_the_cells_of_each_device():
  spec = PipelineSpec(num_devices=2, cells_per_device=2)
  layers = [LayerCost(f'layer{i}', weight_bytes=10 + i) for i in range(4)]
  problem = pipeline_spec.spec_problem(
    layers, spec, pipeline_spec.cell_memory(layers, spec)
  )
  positions = (0, 1, 2, 3, 4)
  # Weights and gradients of layers 1 and 3.
  assert fits(problem, positions, 2, 2 * (11 + 13))
  assert not fits(problem, positions, 2, 2 * (11 + 13) - 1)
