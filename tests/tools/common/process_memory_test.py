# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import subprocess
import sys

import pytest

from tools.common import process_memory

_BYTES = 64 * 2**20
_PROGRAM = f"""
from tools.common import process_memory as memory
before = memory.resident_bytes()
block = bytearray({_BYTES})
held = memory.resident_bytes()
del block
after = memory.resident_bytes()
peak = memory.peak_bytes()
try:
  memory.reset_peak()
except OSError:
  print(before, held, after, peak)
else:
  print(before, held, after, peak, memory.peak_bytes())
"""


def test_tells_what_is_alive_and_what_was():
  env = {**os.environ, **process_memory.ALIVE_ONLY_ENV}
  output = subprocess.run(
    [sys.executable, '-c', _PROGRAM],
    env=env,
    stdout=subprocess.PIPE,
    check=True,
    cwd=pathlib.Path(__file__).parents[3],
  ).stdout
  before, held, after, peak, *reset = map(int, output.split())
  slack = _BYTES // 8
  assert held - before == pytest.approx(_BYTES, abs=slack)
  assert after - before == pytest.approx(0, abs=slack)
  assert peak - before == pytest.approx(_BYTES, abs=slack)
  for value in reset:
    assert value - before == pytest.approx(0, abs=slack)


def test_data_and_files_make_up_the_memory_of_any_process():
  for pid in (None, os.getppid()):
    resident = process_memory.resident_bytes(pid)
    assert 0 < resident <= process_memory.peak_bytes(pid)
  data, files = process_memory.anonymous_bytes(), process_memory.file_bytes()
  assert data > 0 and files > 0
  # Shared memory is neither.
  assert data + files == pytest.approx(process_memory.resident_bytes(), rel=0.1)
