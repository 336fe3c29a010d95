# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import page_testing


def test_the_tutorial_can_be_followed(tmp_path):
  assert page_testing.follow('tutorial.md', tmp_path) == 2
