# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""recompute='fit' finds the best cut with the best choice of what is kept."""

import dataclasses
import itertools
import math
import time

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import step_time
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.partitioner import (
  PartitionError,
  PipelineSpec,
  find,
  partition,
)

_SMALL = st.integers(0, 9)


@st.composite
def _layers(draw, least, most):
  numbers = draw(
    st.lists(st.tuples(*[_SMALL] * 6), min_size=least, max_size=most)
  )
  frozen = draw(st.integers(0, 1))
  return [
    LayerCost(
      f'l{i}',
      forward=f,
      backward=0 if i < frozen else b,
      weight_bytes=w,
      activation_bytes=a,
      transient_bytes=t,
      output_bytes=o,
      has_backward=i >= frozen,
    )
    for i, (f, b, w, a, t, o) in enumerate(numbers)
  ]


@st.composite
def _problems(draw):
  num_devices = draw(st.integers(1, 3))
  layers = draw(_layers(num_devices, 4))
  spec = PipelineSpec(
    num_devices,
    num_micro_batches=draw(st.integers(1, 5)),
    schedule=draw(st.sampled_from(('gpipe', '1f1b', 'zb_h1'))),
    recompute=schedules.FIT,
    input_bytes=draw(_SMALL),
    device_memory=draw(st.integers(0, 200)),
  )
  return layers, spec


def _subsets(layers):
  names = [layer.name for layer in layers if layer.has_backward]
  for count in range(len(names) + 1):
    yield from map(frozenset, itertools.combinations(names, count))


def _largest(found):
  return max(cell.cost for cell in found.cells)


def _step_time(found):
  return step_time.step_time([cell.layers for cell in found.cells], found.spec)


def _best_policy(layers, spec):
  """The least time of a step under a policy for all layers that fits."""
  cuts = [
    find(layers, dataclasses.replace(spec, recompute=policy))
    for policy in schedules.RECOMPUTE_POLICIES
  ]
  return min((_step_time(cut) for cut in cuts if cut), default=math.inf)


def _best_choice(layers, spec):
  """The least cost of the largest cell, all cuts and choices tried."""
  costs = []
  for kept in _subsets(layers):
    one = dataclasses.replace(spec, recompute='always', kept=kept)
    inner = range(1, len(layers))
    for splits in itertools.combinations(inner, spec.num_cells - 1):
      if found := find(layers, one, splits):
        costs.append(_largest(found))
  return min(costs, default=None)


# Found at random, so as to be the same each time, and not shrunk: that takes
# minutes.
_SETTINGS = {
  'deadline': None,
  'derandomize': True,
  'phases': [Phase.explicit, Phase.generate],
}


@settings(max_examples=100, **_SETTINGS)
@given(_problems())
def test_no_cut_and_no_choice_is_better(problem):
  layers, spec = problem
  best = _best_choice(layers, spec)
  found = find(layers, spec)
  if found is None:
    assert best is None and _best_policy(layers, spec) == math.inf
    return
  assert max(found.device_memory) <= spec.device_memory
  # The search counts the forward pass of frozen layers once, if they run again.
  # A policy for all that makes a shorter step may have another largest cell.
  first = found.cells[found.first_backward :][:1]
  runs_frozen = first and not first[0].layers[0].has_backward
  if found.spec.recompute == 'always' and first and not runs_frozen:
    assert _largest(found) == best
  assert _step_time(found) <= _best_policy(layers, spec)


@settings(max_examples=60, **_SETTINGS)
@given(_problems(), st.sampled_from(('zb_v', 'interleaved_1f1b')))
def test_on_shared_devices_what_is_kept_fits_and_saves_time(problem, schedule):
  layers, spec = problem
  layers += [
    dataclasses.replace(layer, name=f'{layer.name}x', has_backward=True)
    for layer in layers
  ]
  spec = dataclasses.replace(
    spec, schedule=schedule, cells_per_device=2, device_memory=300
  )
  try:
    found = partition(layers, spec)
  except PartitionError:
    return
  assert max(found.device_memory) <= spec.device_memory
  assert _step_time(found) <= _best_policy(layers, spec)


def test_times_of_many_bits_choose_the_same_layers_on_shared_devices():
  def choose(unit):
    layers = [
      LayerCost(
        f'l{i}', forward=unit * (1 + i % 3), backward=unit, activation_bytes=4
      )
      for i in range(8)
    ]
    spec = PipelineSpec(
      2,
      cells_per_device=2,
      num_micro_batches=256,
      schedule='interleaved_1f1b',
      recompute=schedules.FIT,
      device_memory=40,
    )
    return partition(layers, spec, [2, 4, 6]).spec.kept

  # A third has 60 bits as a number of its own.
  assert choose(1) == choose(1 / 3)
  assert choose(1)


def test_a_given_cut_is_kept_as_much_as_fits():
  layers = [
    LayerCost(
      f'l{i}', forward=1, backward=2, activation_bytes=10, output_bytes=1
    )
    for i in range(4)
  ]
  spec = PipelineSpec(
    2,
    num_micro_batches=3,
    recompute=schedules.FIT,
    input_bytes=1,
    # Of three micro-batches one layer is kept, and the other is made once.
    device_memory=3 * (1 + 10) + 10,
  )
  found = partition(layers, spec, [2])
  assert found.spec.kept == {'l1', 'l3'}
  assert found.device_memory == (43, 43)
  assert [cell.cost for cell in found.cells] == [7, 7]


def test_hundreds_of_equal_layers_take_seconds():
  layers = [
    LayerCost(
      f'l{i}',
      forward=10**12,
      backward=2 * 10**12,
      weight_bytes=10**7,
      activation_bytes=10**8,
      output_bytes=10**6,
    )
    for i in range(400)
  ]
  spec = PipelineSpec(
    8,
    num_micro_batches=32,
    schedule='1f1b',
    recompute=schedules.FIT,
    device_memory=10**10,
  )
  begun = time.process_time()
  found = partition(layers, spec)
  assert time.process_time() - begun < 20
  # A later device keeps fewer micro-batches, so more layers.
  sizes = found.sizes
  assert sizes[0] < sizes[-1]
  assert 0 < len(found.spec.kept) < 400


def test_layers_of_one_name_are_refused():
  spec = PipelineSpec(1, recompute=schedules.FIT, device_memory=10)
  with pytest.raises(ValueError, match=r"named \['a'\]"):
    partition([LayerCost('a', forward=1)] * 2, spec)


def test_kept_layers_beside_another_policy_are_refused():
  with pytest.raises(ValueError, match=r"recompute is 'never'.*\['a'\]"):
    PipelineSpec(1, recompute='never', kept=frozenset('a'))
