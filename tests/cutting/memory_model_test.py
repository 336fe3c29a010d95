# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.memory_model import CellBytes, CellMemory
from lingvo_gpipe.cutting.skips import Skip, SkipBytes

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


def test_values_that_kept_layers_put_are_stashed():
  skips = [Skip(0, (2,), 13)]
  plain = CellMemory(LAYERS, [4], 'always', kept={'a', 'b'})
  memory = CellMemory(LAYERS, [4], 'always', kept={'a', 'b'}, skips=skips)
  assert memory.of_cell(0, 0, 3).stash == plain.of_cell(0, 0, 3).stash + 4 * 13
  # One that is recomputed puts it again.
  memory = CellMemory(LAYERS, [4], 'always', kept={'b'}, skips=skips)
  plain = CellMemory(LAYERS, [4], 'always', kept={'b'})
  assert memory.of_cell(0, 0, 3) == plain.of_cell(0, 0, 3)


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


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    ((2, (2,), 1), r'from_layer=2, to_layers=\(2,\)'),
    ((0, (), 1), 'one or more'),
    ((0, (3, 1), 1), 'ascending'),
    ((0, (1,), -1), 'num_bytes=-1'),
  ],
)
def test_skips_are_checked(args, message):
  with pytest.raises(ValueError, match=message):
    Skip(*args)


def test_skips_must_fit_the_layers():
  with pytest.raises(ValueError, match=r'\(4,\).* there are only 4 layers'):
    SkipBytes([Skip(0, (4,), 1)], 4)
