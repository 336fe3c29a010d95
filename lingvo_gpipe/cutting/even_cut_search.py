# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Exact search for even cuts where memory does not matter, fast in any case.

Among the cuts whose largest cell costs no more than a bound it finds one with
the fewest bytes across boundaries and, of those, the least sum of squared
costs. The dynamic programming is that of `cut_search`. But here the best start
of a cell never moves back as its end moves forward: for starts a < a' and ends
b < b', with squares of sums,

  cost(a, b) + cost(a', b')  <=  cost(a, b') + cost(a', b)

(the quadrangle inequality; F. F. Yao, "Efficient dynamic programming using
quadrangle inequalities", 1980), bytes depend on the start alone, and the cells
that the bound forbids are the longest ones. So the best start of the middle
end bounds those of all others, and a step looks at N log N cells instead of
N squared. (Bytes of skips depend on the end as well and break the inequality:
`cut_search` is the one to use for them.)
"""

import numpy as np

from lingvo_gpipe.cutting.cut_problem import (
  INFINITE,
  CutProblem,
  Cuts,
  IntArray,
  Windows,
)


def best_even_cuts(problem: CutProblem, largest_cost: int) -> Cuts:
  """The best cuts with regard to bytes, then to the sum of squared costs.

  Args:
    problem: The layers, without skips; their memory is not looked at.
    largest_cost: What no cell may cost more than; at least
      `cut_problem.least_largest_cost(problem)`.

  Returns:
    The cuts, with the values (bytes, sum of squared coarse costs). Where both
    are equal, later cells are as long as they can be, the last one first.
  """
  assert problem.skips is None
  windows = Windows(problem, largest_cost)
  assert windows.is_possible
  values = (np.zeros(1, np.int64), np.zeros(1, np.int64))
  came_from = []
  for cell in range(problem.num_cells):
    values, starts = _step(problem, windows, cell, values)
    came_from.append(starts)
  positions = [problem.num_layers]
  for cell in reversed(range(problem.num_cells)):
    offset = positions[-1] - windows.first[cell + 1]
    positions.append(int(came_from[cell][offset]))
  return Cuts(
    tuple(reversed(positions)), tuple(int(value[0]) for value in values)
  )


def _step(
  problem: CutProblem,
  windows: Windows,
  cell: int,
  before: tuple[IntArray, IntArray],
) -> tuple[tuple[IntArray, IntArray], IntArray]:
  """Adds a cell: the best values at its ends, and where it starts for each."""
  first = windows.first[cell + 1]
  ends = np.arange(first, windows.last[cell + 1] + 1, dtype=np.int64)
  low = np.maximum(windows.earliest_starts(cell, ends), windows.first[cell])
  high = np.minimum(windows.last[cell], ends - 1)
  byte_sums = np.zeros_like(ends)
  squares = np.zeros_like(ends)
  best = np.zeros_like(ends)
  # Every other end of those not yet done, from coarse to fine: its best start
  # lies between those of its neighbours that are done.
  stride = 1 << len(ends).bit_length()
  while stride >= 1:
    rows = np.arange(stride - 1, len(ends), 2 * stride)
    if len(rows):
      row_low, row_high = low[rows].copy(), high[rows].copy()
      left, right = rows - stride, rows + stride
      has_left, has_right = left >= 0, right < len(ends)
      row_low[has_left] = np.maximum(row_low[has_left], best[left[has_left]])
      row_high[has_right] = np.minimum(
        row_high[has_right], best[right[has_right]]
      )
      byte_sums[rows], squares[rows], best[rows] = _best_of_ranges(
        problem,
        cell,
        windows.first[cell],
        before,
        ends[rows],
        row_low,
        row_high,
      )
    stride //= 2
  return (byte_sums, squares), best


def _best_of_ranges(
  problem: CutProblem,
  cell: int,
  first: int,
  before: tuple[IntArray, IntArray],
  ends: IntArray,
  low: IntArray,
  high: IntArray,
) -> tuple[IntArray, IntArray, IntArray]:
  """For each end, the best start in [low, high].

  Args:
    problem: The layers.
    cell: Which cell it is that starts and ends there.
    first: The position that `before` starts at.
    before: The best values of the ways to each start.
    ends: The ends.
    low: The first start for each end.
    high: The last start for each end, at least low.

  Returns:
    (bytes, squares, start) of the best way to each end.
  """
  lengths = high - low + 1
  offsets = np.cumsum(lengths) - lengths
  # All ranges, one after the other.
  starts = np.arange(int(lengths.sum())) - np.repeat(offsets - low, lengths)
  coarse = problem.coarse_costs_before(cell)
  byte_sums = before[0][starts - first] + problem.crossing_bytes[starts]
  cost = np.repeat(coarse[ends], lengths) - coarse[starts]
  squares = before[1][starts - first] + np.square(cost)
  least_bytes = np.minimum.reduceat(byte_sums, offsets)
  squares[byte_sums != np.repeat(least_bytes, lengths)] = INFINITE
  least_squares = np.minimum.reduceat(squares, offsets)
  starts[squares != np.repeat(least_squares, lengths)] = INFINITE
  return least_bytes, least_squares, np.minimum.reduceat(starts, offsets)
