# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The code blocks of a Markdown page, and what they stand for.

  ```python          a program, run as it is
  # name.py          ... or, with its name as the first line, a file to save
  ```sh              commands, for one shell from the first block to the last
  ```text            what the block before it prints

Blocks of other languages, or of none, are only to be read.
"""

import dataclasses
import re

_BLOCK = re.compile(
  r'^```(?P<language>\w*)\n(?P<code>.*?)^```$', re.MULTILINE | re.DOTALL
)
_FILE = re.compile(r'# (\w+\.py)\n')


@dataclasses.dataclass(frozen=True)
class Block:
  """One code block, of a language or ''; `line` is the page's, from 1."""

  language: str
  code: str
  line: int

  @property
  def file_name(self) -> str:
    """The file to save the block as, '' if it is none."""
    match = _FILE.match(self.code) if self.language == 'python' else None
    return match[1] if match else ''


def blocks(page: str) -> list[Block]:
  """All blocks of a page, in order."""
  return [
    Block(
      match['language'],
      match['code'],
      page.count('\n', 0, match.start('code')) + 1,
    )
    for match in _BLOCK.finditer(page)
  ]
