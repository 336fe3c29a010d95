# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Packs documents of any length into rows of one length.

The documents' tokens lie one after another in a stream, each document between
a begin and an end mark. A document of n tokens gives n + 1 pairs of an input
and its label, the token after it:

    stream   <s> t1 t2 t3 t4 t5 </s> <s> u1 ...
    inputs   <s> t1 t2 t3 t4 t5
    labels       t1 t2 t3 t4 t5 </s>

A row holds segments: runs of pairs of one document. Every token but the begin
marks is the label of exactly one pair, also where a document is cut:

    row length 4    | <s> t1 t2 t3 |     labels  t1 t2 t3 t4
                    | t4 t5 <s> u1 |     labels  t5 </s> u1 ...
                      1  1  2   2        segments of the second row
                      0  1  0   1        positions
"""

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_Ints = npt.NDArray[np.int64]
# Where its inputs begin, and its number of pairs.
_Segment = tuple[int, int]
_Row = list[_Segment]


class RowLayout(NamedTuple):
  """Row r has segments row_splits[r] to row_splits[r + 1] - 1."""

  starts: _Ints  # [num_segments]: of a segment's inputs in the stream.
  lengths: _Ints  # [num_segments]: its number of pairs.
  row_splits: _Ints  # [num_rows + 1].


def pack(
  num_tokens: Sequence[int],
  row_length: int,
  num_layouts: int = 1,
  seed: int = 0,
) -> RowLayout:
  """Lays documents out in rows, with little left empty.

  Each document fills as many rows as it can. What is left of the documents is
  put together by best fit: the longest first, each into the row where the
  least room remains. So a document is cut only if it is longer than a row.
  (Ding et al., "Fewer Truncations Improve Language Modeling", 2024.)

  Every token occurs as a label `num_layouts` times; from the second time on the
  length of a document's first segment is random. `num_tokens` are without the
  marks. Layouts follow one another, rows in the order of first documents.
  """
  rows = _rows(num_tokens, row_length, [row_length] * len(num_tokens))
  for number in range(1, num_layouts):
    # NumPy keeps this generator's numbers the same in all versions.
    random = np.random.RandomState([seed & 0xFFFFFFFF, number])
    first = random.randint(1, row_length + 1, size=len(num_tokens))
    rows += _rows(num_tokens, row_length, first.tolist())
  segments = [x for row in rows for x in row]
  starts, lengths = np.array(segments, np.int64).T
  splits = np.cumsum([0, *map(len, rows)], dtype=np.int64)
  return RowLayout(starts, lengths, splits)


def _rows(
  num_tokens: Sequence[int], row_length: int, first_lengths: Sequence[int]
) -> list[_Row]:
  rows: list[_Row] = []
  tails: _Row = []
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
  return sorted(rows, key=lambda row: row[0])


def _best_fit(pieces: _Row, row_length: int) -> list[_Row]:
  rows: list[_Row] = []
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
