# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Values that go from a layer to later ones past those between, in bytes.

Such a value reaches a cell once if it was made before the cell and a layer of
the cell takes it. Taken apart by takers that follow each other, with p before j

```
  made in i, taken in j1, j2, ...:   (p, j) = (i, j1), (j1, j2), ...
```

it reaches a cell of layers a to b - 1 once for the only pair with
p < a <= j < b, if there is one: it depends on the ends of the cell alone.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

IntArray: TypeAlias = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Skip:
  """A value that layers take from an earlier one.

  `to_layers` are in ascending order, all behind `from_layer`. `num_bytes` is
  for one micro-batch, 0 or more. ValueError otherwise.
  """

  from_layer: int
  to_layers: tuple[int, ...]
  num_bytes: int

  def __post_init__(self) -> None:
    layers = (-1, self.from_layer, *self.to_layers)
    in_order = all(a < b for a, b in itertools.pairwise(layers))
    if not (self.to_layers and in_order and self.num_bytes >= 0):
      raise ValueError(
        f'{self}: a skip goes to one or more layers, in ascending order and '
        'behind the one that it comes from, and has 0 bytes or more.'
      )


def put_bytes(skips: Sequence[Skip], num_layers: int) -> list[int]:
  """For each layer the bytes of the values that later ones take of it."""
  put = [0] * num_layers
  for skip in skips:
    put[skip.from_layer] += skip.num_bytes
  return put


class SkipBytes:
  def __init__(self, skips: Sequence[Skip], num_layers: int):
    """Prepares sums; raises ValueError if there is no such layer."""
    pairs = []
    for skip in skips:
      if skip.to_layers[-1] >= num_layers:
        raise ValueError(f'{skip}: there are only {num_layers} layers.')
      layers = (skip.from_layer, *skip.to_layers)
      pairs += [(p, j, skip.num_bytes) for p, j in itertools.pairwise(layers)]
    sources = sorted({p for p, _, _ in pairs})
    targets = sorted({j for _, j, _ in pairs})
    # [r, c]: the bytes of pairs among the first r sources and c targets.
    table = np.zeros((len(sources) + 1, len(targets) + 1), np.int64)
    for p, j, num_bytes in pairs:
      table[sources.index(p) + 1, targets.index(j) + 1] += num_bytes
    self._table: IntArray = table.cumsum(axis=0).cumsum(axis=1)
    positions = np.arange(num_layers + 1)
    self._row: IntArray = np.searchsorted(sources, positions)
    self._column: IntArray = np.searchsorted(targets, positions)

  def into(self, starts: IntArray, ends: IntArray) -> IntArray:
    """Bytes that reach layers `starts` to `ends` - 1 as a cell."""
    rows = self._row[starts]
    reached: IntArray = self._table[rows, self._column[ends]]
    return reached - self._table[rows, self._column[starts]]
