# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from tools.benchmark.memory import bottlenecks, predict

_GPIPE = bottlenecks('gpipe', 32)
_1F1B = bottlenecks('1f1b', 32)
# Of the default case: what crosses a boundary, what is within a cell.
_UNIT = 1024 * 1024 * 4
_INNER = 1024 * 256 * 4


def test_fill_drain_has_all_inputs_at_hand():
  for prediction in predict(_GPIPE):
    assert prediction['peak_stash'] == prediction['at_hand'] == 32


def test_1f1b_has_what_the_cell_before_stashes():
  predictions = predict(_1F1B)
  assert [p['peak_stash'] for p in predictions] == [4, 3, 2, 1]
  assert [p['at_hand'] for p in predictions] == [32, 4, 3, 2]
  assert [p['inputs'] // _UNIT for p in predictions[1:]] == [
    4, 3, 2,
  ]  # fmt: skip


def test_parts_of_a_middle_cell():
  p = predict(_1F1B)[2]
  assert p['state'] == 3 * 2 * 1024 * 256 * 4
  assert p['activations'] == 2 * _UNIT + 2 * _INNER
  assert p['in_transit'] == 2 * _UNIT
  assert (
    p['total'] == p['state'] + p['inputs'] + p['activations'] + p['in_transit']
  )


def test_first_and_last_cell_have_one_neighbour_each():
  predictions = predict(_1F1B)
  assert [p['in_transit'] // _UNIT for p in predictions] == [1, 2, 2, 1]
  assert predictions[0]['activations'] == _UNIT + 2 * _INNER
  assert predictions[0]['inputs'] == 32768 * 128 * 4
