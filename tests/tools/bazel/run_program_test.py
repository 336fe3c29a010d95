# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import subprocess
import sys

import pytest

from tools.bazel import run_program

_SAYS = """\
import os, sys
if __name__ == '__main__':
  print(os.path.basename(sys.argv[0]), sys.argv[1:], os.getcwd())
"""


@pytest.mark.parametrize('program', ['package_x.says', 'package_x/says.py'])
def test_a_program_runs_where_bazel_was_called(tmp_path, program):
  file = tmp_path / 'tools' / 'bazel' / 'run_program.py'
  file.parent.mkdir(parents=True)
  file.write_text(pathlib.Path(run_program.__file__).read_text())
  says = tmp_path / 'package_x' / 'says.py'
  says.parent.mkdir()
  says.write_text(_SAYS)
  caller = tmp_path / 'caller'
  caller.mkdir()
  said = subprocess.run(
    [sys.executable, file, program, '--flag', 'value'],
    env={
      **os.environ,
      'BUILD_WORKING_DIRECTORY': str(caller),
      'PYTHONPATH': str(tmp_path),
    },
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  ).stdout
  assert said == f"says.py ['--flag', 'value'] {caller}\n"
