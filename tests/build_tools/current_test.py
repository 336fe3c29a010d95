# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Guards the BUILD files, where there is no Bazel too."""

import os

import pytest

from build_tools import build_files, declarations, targets
from lingvo_gpipe.lingvo_ops import stand_in


@pytest.mark.skipif(
  'TEST_SRCDIR' in os.environ,
  reason='Bazel gives a test its own files, not all of the repository',
)
def test_the_build_files_are_current():
  stale = build_files.stale(
    build_files.ROOT, targets.build_files(build_files.ROOT)
  )
  assert stale == [], f'Not current. {build_files.ADVICE}'


def test_the_ops_that_are_loaded_by_name_are_declared():
  declared = declarations.LOADS['lingvo_gpipe.lingvo_ops.stand_in']
  assert set(declared) == {
    f'lingvo_gpipe.lingvo_ops.{module}'
    for module in stand_in.IMPLEMENTATIONS.values()
  }
