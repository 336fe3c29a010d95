# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import page_testing


def test_the_example_prints_what_the_page_says(tmp_path):
  assert page_testing.follow('fine_tuning.md', tmp_path) == 1
