# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the memory model."""

import dataclasses
import random

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import memory_model
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.memory_model import CellBytes, CellMemory
from lingvo_gpipe.cutting.skips import Skip
from lingvo_gpipe.schedules import placement, stash

LAYERS = [
  LayerCost(
    'a',
    weight_bytes=100,
    optimizer_bytes=50,
    activation_bytes=7,
    output_bytes=3,
  ),
  LayerCost('b', weight_bytes=10, activation_bytes=20, output_bytes=4),
  LayerCost('c', gradient_bytes=5, activation_bytes=30, output_bytes=2),
]


@pytest.mark.parametrize(
  'recompute, first, second',
  [
    # Cell 0 is layer a and stashes 2 micro-batches, cell 1 is b and c and
    # stashes 1. Inputs: 9 and 3 bytes. Activations: 7 and 50.
    ('always', CellBytes(250, 18, 7), CellBytes(25, 3, 50)),
    ('except_last', CellBytes(250, 18 + 7, 7), CellBytes(25, 3, 50)),
    ('never', CellBytes(250, 18 + 14, 0), CellBytes(25, 53, 0)),
  ],
)
def test_cells_need_state_stash_and_activations(recompute, first, second):
  memory = CellMemory(LAYERS, [2, 1], recompute, input_bytes=9)
  assert memory.of_cell(0, 0, 1) == first
  assert memory.of_cell(1, 1, 3) == second


@pytest.mark.parametrize('recompute', ['always', 'except_last', 'never'])
def test_several_micro_batches_gradients_are_added_to_their_sums(recompute):
  alone = CellMemory(LAYERS, [1], recompute, num_micro_batches=1)
  several = CellMemory(LAYERS, [1], recompute, num_micro_batches=2)
  need = several.of_cell(0, 0, 3)
  assert need.new_gradients == 100 + 10 + 5
  assert need.total == alone.of_cell(0, 0, 3).total + 115
  assert alone.of_cell(0, 0, 3).new_gradients == 0


@pytest.mark.parametrize('recompute', ['always', 'except_last', 'never'])
def test_outputs_that_nothing_keeps_are_there_once(recompute):
  layers = [dataclasses.replace(x, transient_bytes=11) for x in LAYERS]
  more = CellMemory(layers, [4], recompute).of_cell(0, 0, 3)
  less = CellMemory(LAYERS, [4], recompute).of_cell(0, 0, 3)
  assert more.stash == less.stash
  assert more.activations == less.activations + 33
  assert more.outputs == 33


def test_a_device_runs_one_cell_at_a_time():
  cells = [CellBytes(1, 10, 100), CellBytes(2, 20, 300)]
  assert memory_model.device_bytes(cells, [0, 0]) == (333,)
  assert memory_model.device_bytes(cells, [0, 1]) == (111, 322)
  # Gradients of a micro-batch are there while its cell runs, too.
  cells = [CellBytes(1, 10, 100, 250), CellBytes(2, 20, 300, 5)]
  assert memory_model.device_bytes(cells, [0, 0]) == (33 + 350,)
  assert cells[0].total == 361


def test_floors_are_never_above_what_cells_need():
  rng = random.Random(1)
  for _ in range(100):
    layers = [
      LayerCost(
        f'{i}',
        weight_bytes=rng.randint(0, 9),
        activation_bytes=rng.randint(0, 9),
        transient_bytes=rng.randint(0, 9),
        output_bytes=rng.randint(0, 9),
        has_backward=i >= num_frozen,
      )
      for num_frozen in [max(0, rng.randint(-6, 6))]
      for i in range(6)
    ]
    memory = CellMemory(
      layers,
      [rng.randint(1, 4) for _ in range(3)],
      rng.choice(['always', 'except_last', 'never']),
      num_micro_batches=rng.randint(1, 2),
    )
    for cell in range(3):
      for start in range(6):
        for end in range(start + 1, 7):
          need = memory.of_cell(cell, start, end)
          floor = memory.floor_before[end] - memory.floor_before[start]
          assert floor <= need.total
          held = memory.held_before[end] - memory.held_before[start]
          assert held <= need.held


@pytest.mark.parametrize('schedule', schedules.SCHEDULE_NAMES)
def test_peak_stash_is_what_the_simulator_finds(schedule):
  for num_cells, num_devices in ((1, 1), (4, 4), (4, 2), (6, 3)):
    devices = schedules.place(schedule, num_cells, num_devices)
    if not placement.fits(schedule, devices):
      continue
    for num_micro_batches in (1, 2, 7):
      simulated = schedules.simulate(
        schedules.make_schedule(schedule, devices, num_micro_batches)
      )
      assert simulated.peak_stash == memory_model.peak_stash(
        schedule, devices, num_micro_batches
      )


@pytest.mark.parametrize('schedule', schedules.SCHEDULE_NAMES)
def test_what_waits_for_its_weight_gradients_is_counted(schedule):
  """Device k of K = 4 under zb_h1 has k micro-batches between B and W."""
  num_devices = 4 // schedules.cells_per_device(schedule)
  devices = schedules.place(schedule, 4, num_devices)
  handed = memory_model.peak_handed(schedule, devices, 8)
  assert len(handed) == 4
  expected = {'gpipe': (0,) * 4, '1f1b': (0,) * 4, 'zb_h1': (0, 1, 2, 3)}
  assert handed == expected.get(schedule, handed)
  if schedule != 'auto':
    made = schedules.make_schedule(schedule, devices, 8)
    assert handed == stash.peak_handed(made)


def test_recomputed_activations_are_kept_until_the_weight_gradients():
  without = CellMemory(LAYERS, [3], 'always', num_micro_batches=4)
  memory = CellMemory(LAYERS, [3], 'always', handed=[2], num_micro_batches=4)
  inner = sum(layer.activation_bytes for layer in LAYERS)
  more = memory.of_cell(0, 0, 3).total - without.of_cell(0, 0, 3).total
  assert more == 2 * inner


@pytest.mark.parametrize('devices', [(0, 1, 2), (0, 1, 0)])
def test_a_schedule_in_a_file_need_not_train_the_first_cells(tmp_path, devices):
  schedule = schedules.make_schedule('1f1b', devices, 3, first_backward=1)
  path = tmp_path / 'frozen.json'
  path.write_text(schedules.to_json(schedule))
  name = f'file:{path}'
  peaks = memory_model.peak_stash(name, devices, 3)
  assert peaks == stash.peak_stash(schedule)
  assert memory_model.peak_handed(name, devices, 3) == (0, 0, 0)


def test_values_that_kept_layers_put_are_stashed():
  skips = [Skip(0, (2,), 13)]
  plain = CellMemory(LAYERS, [4], 'always', kept={'a', 'b'})
  memory = CellMemory(LAYERS, [4], 'always', kept={'a', 'b'}, skips=skips)
  assert memory.of_cell(0, 0, 3).stash == plain.of_cell(0, 0, 3).stash + 4 * 13
  # One that is recomputed puts it again.
  memory = CellMemory(LAYERS, [4], 'always', kept={'b'}, skips=skips)
  plain = CellMemory(LAYERS, [4], 'always', kept={'b'})
  assert memory.of_cell(0, 0, 3) == plain.of_cell(0, 0, 3)


def test_peak_stash_of_huge_schedules_is_the_limit():
  assert memory_model.peak_stash('1f1b', [0, 1, 0, 1], 10**9) == (4, 3, 2, 1)
  assert memory_model.peak_stash('gpipe', [0, 0], 10**9) == (10**9, 10**9)


def test_numbers_too_large_to_count_are_refused():
  layers = [LayerCost('a', activation_bytes=2**52)]
  with pytest.raises(ValueError, match='too many'):
    CellMemory(layers, [2**10], 'never')


@pytest.mark.parametrize('recompute', schedules.RECOMPUTE_POLICIES)
def test_a_cell_that_only_runs_forward_keeps_nothing_of_a_micro_batch(
  recompute,
):
  frozen = [
    dataclasses.replace(
      layer, gradient_bytes=0, optimizer_bytes=0, has_backward=False
    )
    for layer in LAYERS[:2]
  ]
  memory = CellMemory(
    [*frozen, LAYERS[2]], [3, 2], recompute, num_micro_batches=4
  )
  assert memory.of_cell(0, 0, 2) == CellBytes(110, 0, 27)
  # One that is trained in part keeps its input.
  assert memory.of_cell(1, 1, 3).stash >= 2 * 3
