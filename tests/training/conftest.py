# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import io

import local_training
import pytest
from lingvo.core import py_utils

from lingvo_gpipe.training import logs


@pytest.fixture
def local_run(tmp_path):
  """Flags and cluster of a run over two CPU devices; the log directory."""
  with local_training.settings(tmp_path):
    yield tmp_path


@pytest.fixture
def graph_mode():
  eager = py_utils.IsEagerMode()
  py_utils.SetEagerMode(False, test_mode=True)
  yield
  py_utils.SetEagerMode(eager, test_mode=True)


@pytest.fixture
def warnings():
  """A stream with the warnings that a user sees."""
  stream = io.StringIO()
  with logs.warnings_shown_on(stream):
    yield stream
