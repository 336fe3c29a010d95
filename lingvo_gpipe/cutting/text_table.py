# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables as text, which are also valid Markdown."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a table with the first column to the left, the others right.

  Args:
    header: The columns' titles.
    rows: The cells' text; each row is as long as the header.
  """
  for row in rows:
    if len(row) != len(header):
      raise ValueError(f'{list(row)} does not fit the columns {list(header)}.')
  widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
  rule = [
    '-' * width if i == 0 else '-' * (width - 1) + ':'
    for i, width in enumerate(max(w, 2) for w in widths)
  ]
  return '\n'.join(_line(row, widths) for row in (header, rule, *rows))


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
  cells = [
    text.rjust(max(width, 2)) if i else text.ljust(max(width, 2))
    for i, (text, width) in enumerate(zip(row, widths, strict=True))
  ]
  return f'| {" | ".join(cells)} |'


def megabytes(value: float) -> str:
  return f'{value / 2**20:.0f}'


def signed_percent(share: float) -> str:
  return f'{100 * share:+.0f}%'


def percent(share: float) -> str:
  return f'{100 * share:.0f}%'


def short_count(number: float) -> str:
  """A number of parameters as papers write it: 82M, 5.3B."""
  if number < 1e9:
    return f'{number / 1e6:g}M'
  return f'{number / 1e9:g}B'
