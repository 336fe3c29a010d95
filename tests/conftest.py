# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Set-up that every test needs, before any test imports Lingvo."""

import os
import sys

# Read by TensorFlow when it is imported: no start-up chatter.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# No accelerator is looked for, so a test sees the same devices everywhere.
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')
# On several threads an op may add up in another order, and which test comes
# first would decide on how many it runs.
os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '1')

import pytest
from absl import flags

import lingvo_gpipe  # noqa: F401  (before Lingvo: it may replace its ops)

# pytest parses the command line, not absl, and Lingvo reads flags everywhere.
if not flags.FLAGS.is_parsed():
  flags.FLAGS(sys.argv[:1], known_only=True)


@pytest.fixture(autouse=True)
def _flags_stay_parsed():
  """A command that the test called may have refused its flags."""
  yield
  flags.FLAGS.mark_as_parsed()


@pytest.fixture
def refused(capsys):
  """Runs a command that ends with status 2; returns what it says."""

  def run(main, *args):
    with pytest.raises(SystemExit) as ended:
      main(*args)
    assert ended.value.code == 2
    return capsys.readouterr().err

  return run
