# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs that tests start."""

import os
import pathlib

_HELPERS = pathlib.Path(__file__).absolute().parent
ROOT = _HELPERS.parents[1]


def environment(**variables):
  """Variables with which a program finds this package and tests' models."""
  path = os.pathsep.join(map(str, [ROOT, _HELPERS]))
  return {**os.environ, 'PYTHONPATH': path, **variables}
