# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.training import user_error

# Two devices save, and both fail: each op has its stack.
_STACKS = (
  'Graph execution error:\n\n'
  "Detected at node 'save/SaveV2' defined at (most recent call last):\n"
  "Node: 'save/SaveV2'\n"
  "Detected at node 'save/SaveV2_1' defined at (most recent call last):\n"
  '    File "models.py", line 8, in <module>\n'
  "Node: 'save/SaveV2_1'\n"
)


@pytest.mark.parametrize(
  ('text', 'line'),
  [
    (
      _STACKS + '/logs/ckpt; No space left on device\n\t [[save/SaveV2_1]]\n',
      '/logs/ckpt; No space left on device',
    ),
    (
      _STACKS
      + '2 root error(s) found.\n'
      + '  (0) RESOURCE_EXHAUSTED: /logs/a; No space left on device\n'
      + '\t [[{{node save/SaveV2}}]]\n'
      + '  (1) RESOURCE_EXHAUSTED: /logs/b; No space left on device\n',
      'RESOURCE_EXHAUSTED: /logs/a; No space left on device',
    ),
    ('\n  plain\nand more', 'plain'),
    ('', 'OSError'),
  ],
)
def test_of_a_long_message_the_line_that_says_what_happened(text, line):
  assert user_error.reason(OSError(text)) == line
