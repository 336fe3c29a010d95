# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

from lingvo_gpipe.inputs import packing


def _rows(layout):
  """Each row's segments, as (start, length)."""
  segments = list(
    zip(layout.starts.tolist(), layout.lengths.tolist(), strict=True)
  )
  splits = layout.row_splits.tolist()
  return [segments[a:b] for a, b in itertools.pairwise(splits)]


def _inputs(layout):
  """Every place of the stream that is an input, as often as it is one."""
  return sorted(
    place
    for start, length in zip(layout.starts, layout.lengths, strict=True)
    for place in range(start, start + length)
  )


def _expected_inputs(num_tokens):
  """All places but those of the end marks."""
  ends = np.cumsum(np.array(num_tokens) + 2) - 1
  return sorted(set(range(ends[-1] + 1)) - set(ends.tolist()))


def test_a_long_document_goes_on_in_the_next_row():
  # Stream: <s> 0, tokens 1 to 9, </s> 10; <s> 11, token 12, </s> 13.
  layout = packing.pack([9, 1], row_length=4)
  assert _rows(layout) == [[(0, 4)], [(4, 4)], [(8, 2), (11, 2)]]
  # What is as long as a row fills it.
  assert _rows(packing.pack([3, 3], 4)) == [[(0, 4)], [(5, 4)]]


def test_short_documents_share_rows_by_best_fit():
  # Pairs: 3, 5, 2, 6, 4 in rows of 8: 6 with 2, 5 with 3, 4 alone.
  rows = _rows(packing.pack([2, 4, 1, 5, 3], 8))
  assert [[x[1] for x in row] for row in rows] == [[5, 3], [6, 2], [4]]


@pytest.mark.parametrize('row_length', [1, 2, 7, 64, 1000])
def test_every_token_is_the_label_of_one_pair(row_length):
  lengths = np.random.RandomState(1).randint(0, 150, 60).tolist()
  layout = packing.pack(lengths, row_length)
  assert _inputs(layout) == _expected_inputs(lengths)
  for row in _rows(layout):
    assert 0 < sum(x[1] for x in row) <= row_length


def test_only_documents_longer_than_a_row_are_cut():
  lengths = np.random.RandomState(2).randint(0, 150, 60)
  for layout in (
    packing.pack(lengths, 100),
    packing.pack(lengths, 100, 3, seed=1),
  ):
    begins = np.cumsum([0, *(lengths[:-1] + 2)])
    cuts = set(layout.starts.tolist()) - set(begins.tolist())
    owners = np.searchsorted(begins, sorted(cuts), side='right') - 1
    assert set(owners.tolist()) <= set(np.flatnonzero(lengths >= 100).tolist())
    assert cuts


def test_rows_are_well_filled():
  lengths = np.random.RandomState(3).randint(10, 300, 1000).tolist()
  layout = packing.pack(lengths, 128)
  assert layout.lengths.sum() / (128 * len(_rows(layout))) > 0.97


def test_layouts_show_each_token_once_and_cut_in_different_places():
  lengths = np.random.RandomState(4).randint(0, 500, 20).tolist()
  one = packing.pack(lengths, 64)
  three = packing.pack(lengths, 64, 3, seed=5)
  assert _inputs(three) == sorted(3 * _expected_inputs(lengths))
  assert _rows(three)[: len(_rows(one))] == _rows(one)
  assert len(set(three.starts.tolist())) > 1.8 * len(one.starts)
  for row in _rows(three):
    assert 0 < sum(x[1] for x in row) <= 64


def test_layouts_depend_on_the_seed_alone():
  def starts(seed):
    return packing.pack([500, 700], 64, 2, seed).starts.tolist()

  assert starts(1) == starts(1)
  assert starts(1) != starts(-2)
