# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts a sequence of layers into cells as well as it can be cut."""

from collections.abc import Sequence

import numpy as np

from lingvo_gpipe import cost_model
from lingvo_gpipe.cut_problem import cut_problem, least_largest_cost
from lingvo_gpipe.even_cut_search import best_even_cuts


def balance(costs: Sequence[cost_model.Number], num_cells: int) -> list[int]:
  """How many layers each cell gets, when only their costs matter.

  The largest cell's cost is as small as it can be; among the cuts with that,
  the sum of the squares of the cells' costs. No cell is empty.

  Args:
    costs: The cost of each layer, 0 or more: integers, Fractions or floats.
      `cost_model.to_integers` says how they are rounded, if at all. The
      squares are taken of costs in units of 2**-29 of their total or less.
    num_cells: K, from 1 to the number of layers.

  Returns:
    K sizes, each 1 or more, that add up to the number of layers.

  Raises:
    ValueError: A cost is negative or not finite, or there are more cells than
      layers.
  """
  if not 1 <= num_cells <= len(costs):
    raise ValueError(
      f'{len(costs)} layers cannot be cut into {num_cells} cells: there must '
      'be at least one cell, and at least one layer in each.'
    )
  problem = cut_problem(costs, num_cells)
  cuts = best_even_cuts(problem, least_largest_cost(problem))
  return [int(size) for size in np.diff(cuts.positions)]
