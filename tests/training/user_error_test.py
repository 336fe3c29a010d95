# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.training import user_error

# Two devices save, and both fail: each op has its stack.
_STACKS = """Graph execution error:

Detected at node 'save/SaveV2' defined at (most recent call last):
Node: 'save/SaveV2'
Detected at node 'save/SaveV2_1' defined at (most recent call last):
    File "models.py", line 8, in <module>
Node: 'save/SaveV2_1'
"""


@pytest.mark.parametrize(
  ('text', 'line'),
  [
    (
      _STACKS + '/logs/ckpt; No space left on device\n\t [[save/SaveV2_1]]\n',
      '/logs/ckpt; No space left on device',
    ),
    (
      f'{_STACKS}2 root error(s) found.\n  (0) EXHAUSTED: /logs/a; No space\n'
      '\t [[{{node save/SaveV2}}]]\n  (1) EXHAUSTED: /logs/b; No space\n',
      'EXHAUSTED: /logs/a; No space',
    ),
    ('\n  plain\nand more', 'plain'),
    ('', 'OSError'),
  ],
)
def test_of_a_long_message_the_line_that_says_what_happened(text, line):
  assert user_error.reason(OSError(text)) == line
