# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Bytes of skips, against the definition."""

import random

import numpy as np
import pytest
from random_skips import random_skips

from lingvo_gpipe.cutting.skips import Skip, SkipBytes


def test_what_reaches_a_cell_is_found_for_all_cells_at_once():
  rng = random.Random(3)
  for _ in range(100):
    num_layers = rng.randint(1, 9)
    skips = random_skips(rng, num_layers)
    starts, ends = np.triu_indices(num_layers + 1, 1)
    got = SkipBytes(skips, num_layers).into(starts, ends)
    expected = [
      sum(
        skip.num_bytes
        for skip in skips
        if skip.from_layer < a and any(a <= t < b for t in skip.to_layers)
      )
      for a, b in zip(starts, ends, strict=True)
    ]
    assert got.tolist() == expected


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    ((2, (2,), 1), r'from layer 2 to layers \[2\]'),
    ((0, (), 1), 'one or more'),
    ((0, (3, 1), 1), 'ascending'),
    ((0, (1,), -1), '-1 bytes'),
  ],
)
def test_skips_are_checked(args, message):
  with pytest.raises(ValueError, match=message):
    Skip(*args)


def test_skips_must_fit_the_layers_and_64_bits():
  with pytest.raises(ValueError, match='layer 4, but there are only 4 layers'):
    SkipBytes([Skip(0, (4,), 1)], 4)
  with pytest.raises(ValueError, match='64 bits'):
    SkipBytes([Skip(0, (1, 2), 2**60)], 4)
