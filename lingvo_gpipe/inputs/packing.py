# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Packs documents of any length into rows of one length.

The documents' tokens lie one after another in a stream, each document between
a begin and an end mark. A document of n tokens gives n + 1 pairs of an input
and its label, the token after it:

    stream   <s> t1 t2 t3 t4 t5 </s> <s> u1 ...
    inputs   <s> t1 t2 t3 t4 t5
    labels       t1 t2 t3 t4 t5 </s>

A row holds segments: runs of pairs of one document. A document that is longer
than a row is cut into several segments. Every token but the begin marks is the
label of exactly one pair, also at a cut: there the first input of the second
segment is the label of the last pair of the first, and what came before it is
out of sight.

    row length 4    | <s> t1 t2 t3 |     labels  t1 t2 t3 t4
                    | t4 t5 <s> u1 |     labels  t5 </s> u1 ...
                      1  1  2   2        segments of the second row
                      0  1  0   1        positions
"""

import bisect
import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_Ints = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class RowLayout:
  """Which segments make up which row.

  Attributes:
    starts: int64 [num_segments]: where in the stream a segment's inputs begin.
    lengths: int64 [num_segments]: its number of pairs.
    row_splits: int64 [num_rows + 1]: row r holds the segments from
      row_splits[r] to row_splits[r + 1] - 1.
  """

  starts: _Ints
  lengths: _Ints
  row_splits: _Ints

  @property
  def num_rows(self) -> int:
    return len(self.row_splits) - 1


def pack(
  num_tokens: Sequence[int],
  row_length: int,
  first_lengths: Sequence[int] | None = None,
) -> RowLayout:
  """Lays documents out in rows, with little left empty.

  Each document fills as many rows as it can. What is left of the documents is
  put together by best fit: the longest first, each into the row where the
  least room remains. So a document is cut only if it is longer than a row.
  (The idea is that of Ding et al., "Fewer Truncations Improve Language
  Modeling", 2024.)

  Args:
    num_tokens: Each document's number of tokens, without the marks.
    row_length: Number of pairs that a row can hold.
    first_lengths: For each document, how long its first segment is at most: 1
      to `row_length`. None: `row_length`. Documents that are longer are cut
      there too, so this gives other layouts of the same documents.

  Returns:
    The layout. The rows are in the order of the documents that begin them.
  """
  if first_lengths is None:
    first_lengths = [row_length] * len(num_tokens)
  rows: list[list[tuple[int, int]]] = []
  tails: list[tuple[int, int]] = []
  start = 0
  for tokens, first in zip(num_tokens, first_lengths, strict=True):
    position, end = start, start + tokens + 1
    # A document that fits into a row is never cut.
    length = first if tokens + 1 > row_length else row_length
    while position < end:
      piece = (position, min(length, end - position))
      if piece[1] == row_length:
        rows.append([piece])
      else:
        tails.append(piece)
      position += piece[1]
      length = row_length
    start = end + 1  # Past the end mark, which is no input.
  rows += _best_fit(tails, row_length)
  rows.sort(key=lambda row: row[0])
  segments = [x for row in rows for x in row]
  return RowLayout(
    starts=np.array([x[0] for x in segments], np.int64),
    lengths=np.array([x[1] for x in segments], np.int64),
    row_splits=np.cumsum([0, *map(len, rows)], dtype=np.int64),
  )


def pack_several_ways(
  num_tokens: Sequence[int], row_length: int, num_layouts: int, seed: int
) -> RowLayout:
  """Lays documents out `num_layouts` times, cut in other places each time.

  Args:
    num_layouts: How many times every token occurs as a label. The first time
      documents are cut as by `pack`, later ones at random places.
    seed: Determines the places, together with the number of the layout.
  """
  layouts = [pack(num_tokens, row_length)]
  for number in range(1, num_layouts):
    # NumPy keeps this generator's numbers the same in all versions.
    random = np.random.RandomState([seed & 0xFFFFFFFF, number])
    first = random.randint(1, row_length + 1, size=len(num_tokens))
    layouts.append(pack(num_tokens, row_length, first.tolist()))
  num_segments = np.concatenate([np.diff(x.row_splits) for x in layouts])
  return RowLayout(
    starts=np.concatenate([x.starts for x in layouts]),
    lengths=np.concatenate([x.lengths for x in layouts]),
    row_splits=np.cumsum([0, *num_segments], dtype=np.int64),
  )


def _best_fit(
  pieces: list[tuple[int, int]], row_length: int
) -> list[list[tuple[int, int]]]:
  """Puts pieces, none as long as a row, together in rows."""
  rows: list[list[tuple[int, int]]] = []
  # (room, -number of the piece that left it, row), ascending: of rows with the
  # same room the latest comes first.
  open_rows: list[tuple[int, ...]] = []
  for number, piece in enumerate(sorted(pieces, key=lambda x: (-x[1], x[0]))):
    at = bisect.bisect_left(open_rows, (piece[1],))
    if at < len(open_rows):
      room, _, row = open_rows.pop(at)
    else:
      room, row = row_length, len(rows)
      rows.append([])
    rows[row].append(piece)
    bisect.insort(open_rows, (room - piece[1], -number, row))
  return rows
