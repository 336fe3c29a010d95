# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prints a page of docs/ as a shell script that follows it word for word.

It saves the page's files, and runs its programs and commands, in the order in
which the page has them; the script ends at the first that fails.
"""

import pathlib
import shlex
from collections.abc import Sequence

from tools.common import command
from tools.docs import markdown_blocks

_EXAMPLE = """\
  tools/follow_page.py docs/tutorial.md | bash
"""


def script(page: str) -> str:
  """The script of a page."""
  parts = ['set -ex\n']
  for block in markdown_blocks.blocks(page):
    quoted = shlex.quote(block.code)
    if block.file_name:
      parts.append(f'printf %s {quoted} > {block.file_name}\n')
    elif block.language == 'python':
      parts.append(f'python -c {quoted}\n')
    elif block.language == 'sh':
      parts.append(block.code)
  return ''.join(parts)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the program; returns its exit status."""
  parser = command.Parser('tools/follow_page.py', __doc__, _EXAMPLE)
  parser.add_argument('page', type=pathlib.Path, help='The Markdown file.')
  args = parser.parse_args(argv)
  try:
    page = args.page.read_text(encoding='utf-8')
  except OSError as error:
    parser.error(f'{args.page}: {error.strerror}')
  print(script(page), end='')
  return 0
