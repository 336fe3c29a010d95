# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

_TOLD_EARLY = """
import sys
sys.modules['matplotlib'] = None  # As if it were not installed.
from lingvo_gpipe import {command}
assert {command}.main(['{command}', *{args}]) == 2
assert 'tensorflow' not in sys.modules
"""


@pytest.mark.parametrize(
  ('flags', 'message'),
  [
    (['--trace_step=3'], '--trace_step=3: matplotlib is not installed'),
    (['--trace_steps=2'], '--trace_steps=2 needs --trace_step'),
    (['--trace_dir=/tmp/a'], '--trace_dir=/tmp/a needs --trace_step'),
    (['--trace_step=2', '--use_eager'], 'leave out --use_eager'),
    (['--trace_step=2', '--tpu=local'], 'leave out --tpu'),
  ],
)
@pytest.mark.parametrize('command', ['first_run', 'trainer'])
def test_what_cannot_be_traced_is_told_before_tensorflow_is_imported(
  command, flags, message
):
  others = ['--model=a.B', '--logdir=/tmp/a'] if command == 'trainer' else []
  script = _TOLD_EARLY.format(command=command, args=[*others, *flags])
  ended = subprocess.run(
    [sys.executable, '-c', script], capture_output=True, text=True, check=False
  )
  assert ended.returncode == 0, ended.stderr
  assert f'{command}: ' in ended.stderr and message in ended.stderr
