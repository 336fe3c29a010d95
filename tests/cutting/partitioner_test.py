# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools
import itertools
import random
import subprocess
import sys
from fractions import Fraction

import pytest
from random_skips import random_skips

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import memory_errors
from lingvo_gpipe.cutting.partitioner import (
  LayerCost,
  PartitionError,
  PipelineSpec,
  Skip,
  find,
  partition,
)
from lingvo_gpipe.schedules.simulate import peak_stash


def _random_layers(rng, num_layers):
  """Small numbers, so that ties are common; sometimes no ties."""
  wide = rng.random() < 0.3

  def number(most):
    return rng.randint(0, 1000 * most if wide else most)

  return [
    LayerCost(
      f'layer{i}',
      forward=number(4),
      backward=number(4),
      weight_bytes=number(5),
      optimizer_bytes=number(3),
      activation_bytes=number(6),
      transient_bytes=number(3),
      output_bytes=number(3),
    )
    for i in range(num_layers)
  ]


def _random_instance(rng, most_cells_per_device=3, with_skips=False):
  """Layers, and what they are to be cut for; often under a memory limit."""
  num_devices = rng.randint(1, 4)
  spec = PipelineSpec(
    num_devices=num_devices,
    cells_per_device=rng.randint(
      1, min(most_cells_per_device, 7 // num_devices)
    ),
    num_micro_batches=rng.randint(1, 6),
    micro_batch_size=rng.randint(1, 12),
    schedule=rng.choice(('gpipe', '1f1b', 'zb_h1')),
    recompute=rng.choice(schedules.RECOMPUTE_POLICIES),
    input_bytes=rng.randint(0, 4),
  )
  layers = _random_layers(rng, rng.randint(spec.num_cells, 8))
  if with_skips:
    skips = random_skips(rng, len(layers))
    spec = dataclasses.replace(spec, skips=skips)
  return layers, spec


def _every_cut(num_layers, num_cells):
  for inner in itertools.combinations(range(1, num_layers), num_cells - 1):
    yield list(itertools.pairwise((0, *inner, num_layers)))


def _most_handed(row, k):
  """The most of a cell between their B and W while a B or W of another runs."""
  return max(
    sum(
      f'W{k}.{m}' in row[i + 1 :] and f'B{k}.{m}' in row[:i]
      for m in range(len(row))
    )
    for i, task in enumerate(row)
    if task[0] in 'BW'
  )


class _Oracle:
  """Cost and memory of cuts, written down as plainly as can be."""

  def __init__(self, layers, spec):
    self.layers = layers
    self.spec = spec
    devices = [k % spec.num_devices for k in range(spec.num_cells)]
    schedule = schedules.make_schedule(
      spec.schedule, devices, spec.num_micro_batches
    )
    self.stash = peak_stash(schedule)
    self.handed = [
      _most_handed(list(map(str, schedule.device_tasks[device])), k)
      for k, device in enumerate(devices)
    ]
    self.last_row = ' '.join(map(str, schedule.device_tasks[devices[-1]]))

  @functools.cache  # noqa: B019 (an oracle lives as long as a test)
  def cost(self, k, start, end):
    return sum(
      (1 + self.recomputed(k)) * layer.forward + layer.backward
      for layer in self.layers[start:end]
    )

  @functools.cache  # noqa: B019
  def recomputed(self, k):
    """The share of micro-batches."""
    num_micro_batches = self.spec.num_micro_batches
    num_recomputed = 0
    for m in range(num_micro_batches):
      is_kept = self.spec.recompute == 'never' or (
        self.spec.recompute == 'except_last' and m == num_micro_batches - 1
      )
      if num_micro_batches > 1 and k == self.spec.num_cells - 1:
        is_kept |= f'F{k}.{m} B{k}.{m}' in self.last_row
      num_recomputed += not is_kept
    return Fraction(num_recomputed, num_micro_batches)

  @functools.cache  # noqa: B019
  def held_and_transient(self, k, start, end):
    cell = self.layers[start:end]
    state = sum(
      2 * layer.weight_bytes + layer.optimizer_bytes for layer in cell
    )
    inner = sum(layer.activation_bytes for layer in cell)
    outputs = sum(layer.transient_bytes for layer in cell)
    given = self.spec.input_bytes
    if start:
      given = self.layers[start - 1].output_bytes
    given += sum(skip.num_bytes for skip in self._taken(start, end))
    kept = self.stash[k]
    # While a micro-batch's gradients are added to the sums.
    gradients = 0
    if self.spec.num_micro_batches > 1:
      gradients = sum(layer.weight_bytes for layer in cell)
    if self.spec.recompute == 'never':
      return state + (given + inner) * kept, outputs + gradients
    full = self.handed[k]
    if self.spec.recompute == 'except_last' and kept > 1:
      full = min(full + 1, kept)
    state += full * inner
    return state + given * kept, inner + outputs + gradients

  def _taken(self, start, end):
    return [
      skip
      for skip in self.spec.skips
      if skip.from_layer < start
      and any(start <= taker < end for taker in skip.to_layers)
    ]

  def crossing(self, cells):
    """Bytes that reach each cell from other devices."""
    num_devices = self.spec.num_devices
    home = [k for k, (a, b) in enumerate(cells) for _ in range(a, b)]
    result = []
    for k, (start, end) in enumerate(cells):
      given = self.layers[start - 1].output_bytes if k else 0
      given += sum(
        skip.num_bytes
        for skip in self._taken(start, end)
        if (home[skip.from_layer] - k) % num_devices
      )
      result.append(given if num_devices > 1 else 0)
    return result

  def device_memory(self, cells):
    parts = [self.held_and_transient(k, *cell) for k, cell in enumerate(cells)]
    num_devices = self.spec.num_devices
    return [
      sum(held for held, _ in parts[d::num_devices])
      + max(transient for _, transient in parts[d::num_devices])
      for d in range(num_devices)
    ]

  def value(self, cells):
    """What is to be least; see partition()."""
    crossing = sum(self.crossing(cells))
    costs = [self.cost(k, *cell) for k, cell in enumerate(cells)]
    memories = [
      sum(self.held_and_transient(k, *cell)) for k, cell in enumerate(cells)
    ]
    return max(costs), crossing, max(memories), sum(c**2 for c in costs)

  def best(self):
    """(least value or None, least memory of the fullest device)."""
    best, least_memory = None, None
    limit = self.spec.device_memory
    for cells in _every_cut(len(self.layers), self.spec.num_cells):
      need = max(self.device_memory(cells))
      least_memory = need if least_memory is None else min(least_memory, need)
      if limit is None or need <= limit:
        value = self.value(cells)
        best = value if best is None else min(best, value)
    return best, least_memory


def _with_random_limit(rng, layers, spec):
  """Gives the spec a memory limit between too little and plenty."""
  if rng.random() < 0.25:
    return spec
  cuts = list(_every_cut(len(layers), spec.num_cells))
  oracle = _Oracle(layers, spec)
  low, high = sorted(max(oracle.device_memory(rng.choice(cuts))) for _ in '12')
  limit = rng.randint(max(0, low - 3), high)
  return dataclasses.replace(spec, device_memory=limit)


@pytest.mark.parametrize(
  ('seed', 'number', 'with_skips'),
  [(0, 500, False), (1, 500, False), (2, 500, True)],
)
def test_no_cut_of_random_instances_is_better(seed, number, with_skips):
  rng = random.Random(seed)
  num_not_fitting = 0
  for _ in range(number):
    layers, spec = _random_instance(rng, with_skips=with_skips)
    spec = _with_random_limit(rng, layers, spec)
    oracle = _Oracle(layers, spec)
    best, _ = oracle.best()
    if best is None:
      num_not_fitting += 1
      with pytest.raises(PartitionError, match='do not fit'):
        partition(layers, spec)
      continue
    result = partition(layers, spec)
    assert min(result.sizes) >= 1
    assert sum(result.sizes) == len(layers)
    cells = [(cell.start, cell.end) for cell in result.cells]
    assert [cell.crossing_bytes for cell in result.cells] == (
      oracle.crossing(cells)
    )
    assert list(result.device_memory) == oracle.device_memory(cells)
    may_be_beaten = spec.skips and 1 < spec.num_devices < spec.num_cells
    if may_be_beaten:  # In crossing bytes alone.
      assert oracle.value(cells)[0] == best[0]
    else:
      assert oracle.value(cells) == best
  assert num_not_fitting > 15


def test_no_cut_is_better_where_the_first_layers_are_not_trained():
  rng = random.Random(3)
  num_exact = 0
  for _ in range(200):
    layers, spec = _random_instance(rng)
    first = rng.randint(1, len(layers))
    layers = [
      dataclasses.replace(layer, backward=0, has_backward=False)
      for layer in layers[:first]
    ] + layers[first:]
    result = partition(layers, spec)
    # The search counts the forward pass of these once, if they run again.
    is_exact = not any(
      cell.start < first < cell.end and again
      for cell, again in zip(result.cells, spec.counts.recomputed, strict=True)
    )
    num_exact += is_exact
    largest = max(cell.cost for cell in result.cells)
    for cells in _every_cut(len(layers), spec.num_cells):
      splits = [start for start, _ in cells[1:]]
      other = partition(layers, spec, splits)
      assert not is_exact or largest <= max(c.cost for c in other.cells)
      for cell in other.cells[: other.first_backward]:
        assert cell.end <= first and cell.memory.stash == 0
        assert cell.cost == sum(
          x.forward for x in layers[cell.start : cell.end]
        )
      assert all(c.end > first for c in other.cells[other.first_backward :])
  assert num_exact > 60


def test_many_cells_with_a_skip_over_all_layers():
  # As of an encoder's output, which every layer of the decoder takes.
  layers = [LayerCost(f'l{i}', 1 + i % 3, output_bytes=1) for i in range(600)]
  skips = (Skip(9, tuple(range(100, 600)), 7),)
  result = partition(layers, PipelineSpec(num_devices=64, skips=skips))
  takers = [cell for cell in result.cells if cell.end > 100]
  assert result.crossing_bytes == 63 + 7 * len(takers)


def test_the_smallest_number_of_devices_is_found():
  rng = random.Random(11)
  numbers = set()
  for _ in range(150):
    layers, spec = _random_instance(rng, 1, with_skips=rng.random() < 0.3)
    _, least = _Oracle(layers, spec).best()
    splits = memory_errors.least_memory_splits(layers, spec)
    assert max(partition(layers, spec, splits).device_memory) == least
    spec = dataclasses.replace(
      spec, device_memory=least * rng.randint(2, 5) // 6
    )
    expected = None
    for num_devices in range(1, len(layers) + 1):
      other = dataclasses.replace(spec, num_devices=num_devices)
      if _Oracle(layers, other).best()[1] <= spec.device_memory:
        expected = num_devices
        break
    assert memory_errors.smallest_num_devices(layers, spec) == expected
    numbers.add(expected)
  assert {None, 2, 3, 4, 5} <= numbers


def test_the_smallest_number_of_devices_with_several_cells_fits():
  rng = random.Random(12)
  num_fitting = 0
  for _ in range(100):
    layers = _random_layers(rng, rng.randint(2, 8))
    spec = PipelineSpec(1, cells_per_device=2, num_micro_batches=3)
    _, least = _Oracle(layers, spec).best()
    spec = dataclasses.replace(spec, device_memory=least * 2 // 3)
    number = memory_errors.smallest_num_devices(layers, spec)
    if number is None:
      continue
    num_fitting += 1
    assert find(layers, dataclasses.replace(spec, num_devices=number))
    if number > 2:
      fewer = dataclasses.replace(spec, num_devices=number - 1)
      assert find(layers, fewer) is None
  assert num_fitting > 10


def test_the_fewest_micro_batches_that_divide_the_mini_batch_are_found():
  rng = random.Random(13)
  numbers = set()
  for _ in range(200):
    layers, spec = _random_instance(rng, 1)
    size = spec.micro_batch_size  # Bytes of an example are whole.
    spec = dataclasses.replace(spec, input_bytes=size * spec.input_bytes)
    layers = [
      dataclasses.replace(
        layer,
        activation_bytes=size * layer.activation_bytes,
        transient_bytes=size * layer.transient_bytes,
        output_bytes=size * layer.output_bytes,
      )
      for layer in layers
    ]
    _, least = _Oracle(layers, spec).best()
    limit = max(0, least - rng.randint(1, 1 + least // 4))
    spec = dataclasses.replace(spec, device_memory=limit)
    examples = spec.num_micro_batches * size
    expected = None
    for m in range(spec.num_micro_batches + 1, examples + 1):
      share = Fraction(spec.num_micro_batches, m)
      finer = [layer.scaled(share) for layer in layers]
      oracle = _Oracle(finer, spec.with_micro_batches(m))
      if examples % m == 0 and oracle.best()[1] <= limit:
        expected = oracle.spec
        break
    assert memory_errors.fewest_micro_batches(layers, spec) == expected
    numbers.add(expected and expected.micro_batch_size)
  assert {None, 1, 2, 3, 4} <= numbers


def test_importing_schedules_and_the_partitioner_imports_no_tensorflow():
  code = (
    'import sys, lingvo_gpipe.schedules\n'
    'assert "numpy" not in sys.modules\n'
    'import lingvo_gpipe.cutting.partitioner\n'
    'wrong = {"tensorflow", "lingvo"} & set(sys.modules)\n'
    'assert not wrong, wrong'
  )
  subprocess.run([sys.executable, '-c', code], check=True)


_NUMBERS = ('num_devices', 'micro_batch_size', 'input_bytes', 'device_memory')


@pytest.mark.parametrize('name', _NUMBERS)
def test_a_number_out_of_range_is_named(name):
  with pytest.raises(ValueError, match=f'^{name} is -1; it must be . or more'):
    PipelineSpec(**{'num_devices': 1, name: -1})
