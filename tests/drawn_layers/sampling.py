# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which of the draws that hypothesis makes are worth running.

To make a draw costs next to nothing, to run it seconds. Hypothesis follows each
draw up by some that repeat parts of it, and often comes back to small ones.
"""

import itertools

from drawn_layers.draws import Draw

# How many draws to ask hypothesis for, for each that is run.
MADE_FOR_EACH = 20


class Sample:
  """Up to so many draws.

  Each has a layer that the one before has not, and two neighbours that none
  before has.
  """

  def __init__(self, size: int):
    self._left = size
    self._last: set[str] = set()
    self._neighbours: set[tuple[str, str]] = set()

  def takes(self, draw: Draw) -> bool:
    """Whether to run a draw."""
    layers = list(map(repr, draw.layers))
    neighbours = set(itertools.pairwise(layers))
    if (
      not self._left
      or self._last.issuperset(layers)
      or neighbours <= self._neighbours
    ):
      return False
    self._left -= 1
    self._last = set(layers)
    self._neighbours |= neighbours
    return True
