# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import subprocess

from tools.docs import follow_page

_PAGE = """\
```python
# hello.py
print('it\\'s', "here")
```

```sh
cat hello.py
```

```text
not run
```

```python
# No file: a comment.
print(1)
```

```sh
test -e hello.py
echo end
```
"""


def _follow(page, directory):
  return subprocess.run(
    ['bash'],
    input=follow_page.script(page),
    cwd=directory,
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_script_saves_files_and_runs_commands_in_order(tmp_path):
  result = _follow(_PAGE, tmp_path)
  assert result.returncode == 0, result.stderr
  assert result.stdout == "# hello.py\nprint('it\\'s', \"here\")\n1\nend\n"


def test_the_script_ends_at_the_first_failure(tmp_path):
  result = _follow(_PAGE.replace('cat', 'false'), tmp_path)
  assert result.returncode != 0
  assert 'end' not in result.stdout


def test_a_missing_page_is_told_in_one_line(refused):
  assert '/nowhere/page.md: No such file' in refused(
    follow_page.main, ['/nowhere/page.md']
  )
