# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The part of a text file between two comments, to be replaced."""

import pathlib


class MarkedSection:
  """What is between `<!-- NAME:begin -->` and `<!-- NAME:end -->`."""

  def __init__(self, path: str, name: str):
    """Reads the file.

    Args:
      path: A Markdown file.
      name: NAME.

    Raises:
      ValueError: There is no such file, or it has not one of each comment, in
        this order.
    """
    self._file = pathlib.Path(path)
    if not self._file.is_file():
      raise ValueError(f'There is no file {path}.')
    begin, end = f'<!-- {name}:begin -->', f'<!-- {name}:end -->'
    content = self._file.read_text(encoding='utf-8')
    before, *rest = content.split(begin)
    if len(rest) != 1 or content.count(end) != 1 or end not in rest[0]:
      raise ValueError(
        f'{path} must have {begin} and {end} once each, in this order.'
      )
    self._before = before + begin
    self._after = end + rest[0].split(end)[1]

  def replace(self, text: str) -> None:
    """Writes the file with other text between the comments."""
    self._file.write_text(
      f'{self._before}\n\n{text.strip()}\n\n{self._after}', encoding='utf-8'
    )
