# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.training import user_error

_ONE = (
  'Graph execution error:\n\n'
  "Detected at node 'save/SaveV2' defined at (most recent call last):\n"
  '    File "models.py", line 8, in <module>\n'
  "Node: 'save/SaveV2'\n"
  '/logs/ckpt; No space left on device\n'
  '\t [[{{node save/SaveV2}}]]\n'
)
# Two devices save, and both fail: each op has its stack.
_STACKS = (
  'Graph execution error:\n\n'
  "Detected at node 'save/SaveV2' defined at (most recent call last):\n"
  "Node: 'save/SaveV2'\n"
  "Detected at node 'save/SaveV2_1' defined at (most recent call last):\n"
  "Node: 'save/SaveV2_1'\n"
)


@pytest.mark.parametrize(
  ('text', 'line'),
  [
    (_ONE, '/logs/ckpt; No space left on device'),
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


def test_the_place_is_the_last_line_that_is_no_package(tmp_path):
  file = tmp_path / 'models.py'
  file.write_text('import json\n\ndef load(x):\n  return json.loads(x)\n')
  with pytest.raises(ValueError) as caught:
    names = {}
    exec(compile(file.read_text(), str(file), 'exec'), names)
    names['load']('{')
  place = user_error.place_in_users_code(caught.value)
  assert place == f'{file}, line 4: return json.loads(x)'
