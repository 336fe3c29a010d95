# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Of all choices of layers to keep, the one that saves most is found."""

import itertools

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lingvo_gpipe.cutting import kept_layers

_LAYERS = st.lists(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=7)


def _most(saved, extra, passed_on, room):
  most = 0
  for kept in itertools.product((0, 1), repeat=len(saved)):
    pairs = zip(passed_on, itertools.pairwise(kept), strict=False)
    needed = sum(e for e, k in zip(extra, kept, strict=True) if k)
    needed += sum(o for o, pair in pairs if pair == (1, 0))
    if needed <= room:
      most = max(most, sum(s for s, k in zip(saved, kept, strict=True) if k))
  return most


@settings(deadline=None, derandomize=True)
@given(_LAYERS, st.integers(0, 50))
# Layers that save nothing are not worth their room.
@example([(1, 10, 0)] * 2 + [(0, 5, 0)] * 4, 20)
def test_no_choice_saves_more(layers, room):
  saved, extra, passed_on = (
    np.array(column) for column in zip(*layers, strict=True)
  )
  most, kept = kept_layers.choose(saved, extra, passed_on, room)
  assert most == _most(saved, extra, passed_on, room)
  assert most == sum(saved[i] for i in kept)
  assert kept_layers.at_least(saved, extra, room) <= most
  assert kept_layers.at_most(saved, extra, room) >= most


def test_of_equal_layers_those_are_kept_that_hand_on_less():
  one = np.ones(3, np.int64)
  _, kept = kept_layers.choose(one, 10 * one, 5 * one, 20)
  assert kept == (1, 2)
