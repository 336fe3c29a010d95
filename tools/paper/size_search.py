# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Finds the largest size that fits, with few measurements.

```
  predict: a guess of the memory of each size, quick
  measure: the truth, slow

  size      guess x factor          measured
   40       ...............
   41       ............... |       fits, 2.8 GiB: factor = 2.8 / guess
   42       ................|
   43       ................|.      does not fit: never try above it
                            budget
```

Each measurement corrects the factor between guess and truth, and the next size
is the largest that the corrected guess lets fit, between the largest that is
known to fit and the smallest that is known not to.
"""

import bisect
import dataclasses
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

_T = TypeVar('_T')

# What is left of the budget while no size is known to fit.
_MARGIN = 0.02
# A guess that proved too small is corrected by at least this.
_CORRECTION = 1.04


@dataclasses.dataclass(frozen=True)
class Found(Generic[_T]):
  """What a search found.

  Attributes:
    best: The largest size that fits, and what its measurement returned; None
      if none does.
    too_large: The smallest measured size that does not; None if the search
      ended because the best one fills the budget.
    factor: How much larger measured peaks are than guesses.
  """

  best: tuple[int, _T] | None
  too_large: int | None
  factor: float


def largest(
  sizes: Sequence[int],
  budget: int,
  predict: Callable[[int], int],
  measure: Callable[[int], tuple[int | None, _T]],
  *,
  factor: float = 1.0,
  filled: float = 0.95,
  max_trials: int = 6,
) -> Found[_T]:
  """Searches sizes, whose memory must grow with them.

  It ends when two neighbouring sizes are known of which one fits and one does
  not; when one fits that takes a share of `filled` of the budget; or after
  `max_trials`, with the best so far.

  Args:
    sizes: Ascending.
    budget: Bytes that the peak may reach.
    predict: A guess of the peak.
    measure: Measures a size: its peak, None if it was stopped at the budget,
      and a result.
    factor: How much larger measured peaks are expected than guesses.
    filled: See above, in (0, 1]; 1 looks for the very largest size.
    max_trials: See above.
  """
  # Positions of the largest that fits and of the smallest that does not.
  low, high = -1, len(sizes)
  best = None
  for _ in range(max_trials):
    if high - low == 1:
      break
    margin = _MARGIN if best is None else 0.0
    position = largest_guess(sizes, budget * (1 - margin) / factor, predict)
    position = min(max(position, low + 1), high - 1)
    size = sizes[position]
    peak, result = measure(size)
    guess = max(predict(size), 1)
    if peak is not None:
      factor = peak / guess
    else:
      factor = _CORRECTION * max(factor, budget / guess)
    if peak is None or peak > budget:
      high = position
      continue
    low, best = position, (size, result)
    if peak >= filled * budget:
      break
  return Found(best, sizes[high] if high < len(sizes) else None, factor)


def largest_guess(
  sizes: Sequence[int], limit: float, predict: Callable[[int], int]
) -> int:
  """The position of the largest size whose guess is within a limit, or 0."""
  return max(bisect.bisect_right(sizes, limit, key=predict) - 1, 0)
