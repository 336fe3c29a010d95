# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a program, for Bazel: run_program.py PROGRAM [ARGUMENT...].

The program is a module, run as by python -m, or a file of the repository.
"""

import os
import pathlib
import runpy
import sys


def main() -> None:
  """Runs the program in the directory that `bazel run` was called in."""
  # Python puts a program's directory on the path, links followed.
  own = os.path.dirname(os.path.realpath(__file__))
  sys.path[:] = [p for p in sys.path if os.path.realpath(p) != own]
  root = pathlib.Path(os.path.abspath(__file__)).parents[2]
  program = sys.argv.pop(1)
  caller = os.environ.pop('BUILD_WORKING_DIRECTORY', None)
  if caller:
    os.chdir(caller)
  if program.endswith('.py'):
    sys.argv[0] = str(root / program)
    runpy.run_path(sys.argv[0], run_name='__main__')
  else:
    runpy.run_module(program, run_name='__main__', alter_sys=True)


if __name__ == '__main__':
  main()
