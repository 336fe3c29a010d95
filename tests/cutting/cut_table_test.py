# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.cutting.cut_table import CutTable
from lingvo_gpipe.cutting.partitioner import LayerCost, PipelineSpec, partition


def _table(
  times, num_cells, num_micro_batches, splits=None, basis='flops', devices=()
):
  sizes = {'parameters': 10, 'weight_bytes': 40, 'optimizer_bytes': 80}
  sizes |= {'activation_bytes': 1000, 'output_bytes': 100}
  layers = [
    LayerCost(f'l{i}', time, 2 * time, **sizes) for i, time in enumerate(times)
  ]
  spec = PipelineSpec(
    num_cells, num_micro_batches=num_micro_batches, schedule='1f1b'
  )
  devices = devices or [f'/cpu:{k}' for k in range(num_cells)]
  cut = partition(layers, spec, splits)
  return CutTable(cut, basis, devices, splits_given=bool(splits))


def test_rows_add_up_what_the_layers_need():
  table = _table([1, 1, 1, 1], 2, 8)
  assert [row.layers_text for row in table.rows] == ['l0, l1', 'l2, l3']
  # Under 1F1B the last cell need not recompute.
  assert [row.share for row in table.rows] == [8 / 14, 6 / 14]
  assert [row.parameters for row in table.rows] == [20, 20]
  # Gradients are the sums, and those of the newest micro-batch. The second of
  # two cells stashes one micro-batch at a time.
  assert [row.sizes for row in table.rows] == [
    [80, 160, 160, 0, 2000, 0],
    [80, 160, 160, 100, 2000, 100],
  ]
  assert table.partition.device_memory[1] == 80 + 160 + 160 + 100 + 2000


def test_bubble_is_the_formulas_for_equal_cells_and_larger_for_others():
  even = _table([3, 4], 2, 8)
  assert even.imbalance == 1
  assert even.bubble == pytest.approx(1 / 9, rel=0.1)
  assert even.even_bubble == pytest.approx(1 / 9)
  uneven = _table([1, 2], 2, 8)
  assert uneven.imbalance == pytest.approx(6 / 5)
  assert uneven.bubble > uneven.even_bubble


@pytest.mark.parametrize(
  ('table', 'remedy'),
  [
    (lambda: _table([1] * 4, 4, 4), 'set num_micro_batches to 12 or more (now'),
    (lambda: _table([1, 9], 2, 8), "layer 'l1' alone: split that"),
    (lambda: _table([1] * 4, 2, 8, splits=[1]), 'Leave splits unset'),
    (lambda: _table([2, 2, 2, 2], 3, 40, basis='params'), 'give input_shapes'),
    (lambda: _table([2, 2, 2, 2], 3, 40), 'Use finer layers, or fewer cells.'),
  ],
)
def test_what_is_above_a_fifth_gets_a_warning_with_a_remedy(table, remedy):
  warnings = table().warnings()
  assert any(remedy in warning for warning in warnings), warnings
  assert warnings[0] in table().to_text()


def test_the_text_names_cells_devices_and_layers():
  text = _table([1, 1, 1, 1, 1], 2, 8).to_text()
  lines = text.splitlines()
  assert 'cost (flops)' in lines[0]
  assert ' cpu:1 ' in lines[3]
  assert 'l0 .. l2 (3)' in text or 'l2 .. l4 (3)' in text
  # Two layers of 1 + 1 + 2, and three of 1 + 2.
  assert '1f1b, M = 8, recompute always: imbalance 1.06' in text


@pytest.mark.parametrize(
  ('devices', 'short'),
  [
    ([f'/job:a/task:{k}/cpu:0' for k in '01'], ['task:0/cpu:0', 'task:1/']),
    (['/job:a/task:0/cpu:0'] * 2, ['cpu:0', 'cpu:0']),
    (['', ''], ['', '']),
    (['0', '1'], ['0', '1']),
  ],
)
def test_device_names_are_told_apart_in_few_letters(devices, short):
  lines = _table([1, 1], 2, 8, devices=devices).to_text().splitlines()
  for line, name in zip(lines[2:4], short, strict=True):
    assert line.split('|')[2].strip().startswith(name)
    assert 'job' not in line
