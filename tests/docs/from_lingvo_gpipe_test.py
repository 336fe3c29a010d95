# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import page_testing


def test_the_example_of_a_migration_runs(tmp_path):
  assert page_testing.follow('from_lingvo_gpipe.md', tmp_path) == 1
