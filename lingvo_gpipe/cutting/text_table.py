# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tables as text, which are also valid Markdown."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table with the first column to the left, the others right."""
  columns = list(zip(header, *rows, strict=True))
  widths = [max(2, *map(len, column)) for column in columns]
  rule = ['-' * widths[0], *('-' * (width - 1) + ':' for width in widths[1:])]
  lines = [
    ' | '.join(
      text.rjust(width) if i else text.ljust(width)
      for i, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in (header, rule, *rows)
  ]
  return '\n'.join(f'| {line} |' for line in lines)


def megabytes(value: float) -> str:
  return f'{value / 2**20:.0f}'


def short_count(number: float) -> str:
  """A number of parameters as papers write it: 82M, 5.3B."""
  if number < 1e9:
    return f'{number / 1e6:g}M'
  return f'{number / 1e9:g}B'
