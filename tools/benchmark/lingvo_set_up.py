# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo for programs whose command line is not made of absl's flags."""

import os
import sys


def prepare() -> None:
  """Imports Lingvo, which reads flags everywhere, with all at their defaults.

  TensorFlow's own lines are left out if it is not imported yet; they would be
  more than the program's.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  from absl import flags

  import lingvo_gpipe  # noqa: F401  (before Lingvo)

  if not flags.FLAGS.is_parsed():
    flags.FLAGS(sys.argv[:1])
