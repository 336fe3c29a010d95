# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which layers to keep in some bytes, so that most time is saved.

A knapsack problem, but for what a kept layer hands to a recomputed one, which
needs bytes, too. Layer by layer, ways are dropped that save no more than one of
no more bytes:

```
  layer         0            1            2
  kept    .--> (w, f) ----> (2w, 2f) --> ...         w: its bytes in flight
  ways ---<                /                         f: its forward pass
  not     '--> (0, 0) --<-'---> (w + o, f) --> ...   o: its output in flight
```

Where layers are alike, as in a Transformer, few ways are left: as many as there
are numbers of kept layers.
"""

from typing import NamedTuple

import numpy as np

from lingvo_gpipe.cutting.skips import IntArray

# More ways than this are thinned out; a choice may then not be the best.
_MAX_WAYS = 4096


class _Ways(NamedTuple):
  """Ways to choose among the first layers; a row each.

  `saved` is time, `is_kept` (0 or 1) whether the last layer is, `parents` the
  way of one layer less that it continues.
  """

  bytes: IntArray
  saved: IntArray
  is_kept: IntArray
  parents: IntArray

  def longer(self, extra: int, saved: int, passed_on: int) -> '_Ways':
    """All ways with the next layer, not kept and kept."""
    rows = np.arange(len(self.bytes))
    return _Ways(
      np.append(self.bytes + self.is_kept * passed_on, self.bytes + extra),
      np.append(self.saved, self.saved + saved),
      np.append(0 * rows, 0 * rows + 1),
      np.append(rows, rows),
    )

  def useful(self, room: int) -> '_Ways':
    """Those within the room of which none is as good as another."""
    useful = []
    for flag in (0, 1):
      rows = np.flatnonzero((self.is_kept == flag) & (self.bytes <= room))
      rows = rows[np.lexsort((-self.saved[rows], self.bytes[rows]))]
      most = np.maximum.accumulate(self.saved[rows])
      is_better = np.ones(len(rows), np.bool_)
      is_better[1:] = most[1:] > most[:-1]
      rows = rows[is_better]
      if len(rows) > _MAX_WAYS:
        places = np.linspace(0, len(rows) - 1, _MAX_WAYS).round()
        rows = rows[places.astype(np.int64)]
      useful.append(rows)
    rows = np.concatenate(useful)
    return _Ways(*(column[rows] for column in self))


def choose(
  saved: IntArray, extra: IntArray, passed_on: IntArray, room: int
) -> tuple[int, tuple[int, ...]]:
  """The most time that can be saved, and the positions of layers to keep.

  Args:
    saved: What each layer saves if it is kept.
    extra: Bytes that it costs.
    passed_on: Bytes that it costs more if the layer after it is not kept.
    room: Bytes that there are.
  """
  zero = np.zeros(1, np.int64)
  ways = _Ways(zero, zero, zero, zero)
  history = []
  before = 0
  for of_layer in zip(extra, saved, passed_on, strict=True):
    more, time, handed_on = map(int, of_layer)
    ways = ways.longer(more, time, before).useful(room)
    history.append(ways)
    before = handed_on
  row = int(ways.saved.argmax())
  most, kept = int(ways.saved[row]), []
  for i, ways in reversed(list(enumerate(history))):
    if ways.is_kept[row]:
      kept.append(i)
    row = int(ways.parents[row])
  return most, tuple(reversed(kept))


def at_least(saved: IntArray, extra: IntArray, room: int) -> int:
  """What the last layers save that can all be kept: they hand nothing on."""
  behind = extra[::-1].cumsum()
  count = int(np.searchsorted(behind, room, 'right'))
  return int(saved[len(saved) - count :].sum())


def at_most(saved: IntArray, extra: IntArray, room: int) -> float:
  """No less than can be saved: as if layers could be kept in part."""
  price = np.where(saved > 0, extra / np.maximum(saved, 1), np.inf)
  order = np.argsort(price, kind='stable')
  behind = extra[order].cumsum()
  count = int(np.searchsorted(behind, room, 'right'))
  total = float(saved[order[:count]].sum())
  if count < len(order):
    left = room - (int(behind[count - 1]) if count else 0)
    i = order[count]
    total += float(saved[i]) * left / max(int(extra[i]), 1)
  return total * (1 + 1e-9) + 1
