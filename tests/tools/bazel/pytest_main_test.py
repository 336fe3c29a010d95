# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pathlib

from tools.bazel import pytest_main

_ROOT = pathlib.Path('/r')
_VARIABLES = ('XML_OUTPUT_FILE', 'TEST_TMPDIR', 'TESTBRIDGE_TEST_ONLY')


def test_the_file_is_run_with_the_projects_configuration(monkeypatch):
  for name in _VARIABLES:
    monkeypatch.delenv(name, raising=False)
  found = pytest_main.arguments(_ROOT, 'tests/a_test.py', '-x')
  assert found[0] == '/r/tests/a_test.py'
  assert '--config-file=/r/pyproject.toml' in found
  assert found[-1] == '-x'
  assert not any(
    a.startswith(('--junitxml', '--basetemp', '-k')) for a in found
  )


def test_bazel_says_where_results_go_and_which_tests_run(monkeypatch):
  for name in _VARIABLES:
    monkeypatch.setenv(name, f'/v/{name}')
  found = pytest_main.arguments(_ROOT, 'tests/a_test.py')
  assert '--junitxml=/v/XML_OUTPUT_FILE' in found
  assert '--basetemp=/v/TEST_TMPDIR/pytest' in found
  assert '-k=/v/TESTBRIDGE_TEST_ONLY' in found
