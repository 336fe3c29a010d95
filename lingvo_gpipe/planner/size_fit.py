# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Costs of a layer at any width, from three widths; and the largest that fits.

What a layer costs is a polynomial in the width D: weights and FLOPs of its
convolutions and matrices are quadratic, activations, biases and norms linear.
So three widths tell all others, exactly:

```
  D        64      128      192     ...    512
  bytes    a        b        c    --quadratic through a, b, c-->  d
```
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction

from lingvo_gpipe.cutting.cost_model import LayerCost, Number

NUM_WIDTHS = 3


def at_width(known: Mapping[int, LayerCost], width: int) -> LayerCost:
  """The cost of a layer at a width.

  Args:
    known: Its costs at three widths.
    width: Any width.
  """
  if width in known:
    return known[width]
  assert len(known) == NUM_WIDTHS
  first = next(iter(known.values()))

  def value(get: Callable[[LayerCost], Number]) -> Fraction:
    return _quadratic({w: get(cost) for w, cost in known.items()}, width)

  def size(get: Callable[[LayerCost], Number]) -> int:
    return max(round(value(get)), 0)

  return dataclasses.replace(
    first,
    forward=max(value(lambda cost: cost.forward), Fraction(0)),
    backward=max(value(lambda cost: cost.backward), Fraction(0)),
    parameters=size(lambda cost: cost.parameters),
    weight_bytes=size(lambda cost: cost.weight_bytes),
    gradient_bytes=size(lambda cost: cost.gradient_sum_bytes),
    optimizer_bytes=size(lambda cost: cost.optimizer_bytes),
    activation_bytes=size(lambda cost: cost.activation_bytes),
    output_bytes=size(lambda cost: cost.output_bytes),
  )


def _quadratic(points: Mapping[int, Number], x: int) -> Fraction:
  """The value at x of the parabola through three points (Lagrange)."""
  total = Fraction(0)
  for a, value in points.items():
    weight = Fraction(1)
    for b in points:
      if b != a:
        weight *= Fraction(x - b, a - b)
    total += weight * Fraction(value)
  return total


def largest(sizes: Sequence[int], fits: Callable[[int], bool]) -> int | None:
  """The largest of ascending sizes that fits, if all smaller ones do.

  Returns:
    The size, or None if not even the first fits.
  """
  low, high = -1, len(sizes)
  step = 1
  # Steps that double, as large sizes take longer to ask for.
  while low + step < high and fits(sizes[low + step]):
    low, step = low + step, 2 * step
  high = min(low + step, high)
  while high - low > 1:
    middle = (low + high) // 2
    if fits(sizes[middle]):
      low = middle
    else:
      high = middle
  return None if low < 0 else sizes[low]
