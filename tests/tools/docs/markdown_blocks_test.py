# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from tools.docs import markdown_blocks

_PAGE = """\
# Title

```sh
python a.py
```

Text with `code`.

```python
# a.py
print(1)
```

```
a drawing
```

```python
# No file: a comment.
print(2)
```
"""


def test_blocks_come_in_order_with_language_and_line():
  found = markdown_blocks.blocks(_PAGE)
  assert [(b.language, b.line) for b in found] == [
    ('sh', 4),
    ('python', 10),
    ('', 15),
    ('python', 19),
  ]
  assert found[0].code == 'python a.py\n'


def test_a_first_line_with_a_name_makes_a_file():
  found = markdown_blocks.blocks(_PAGE)
  assert [b.file_name for b in found] == ['', 'a.py', '', '']
  assert found[1].code == '# a.py\nprint(1)\n'
