# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The programs of pages run, and print what stands below them."""

import page_testing
import pytest

from lingvo_gpipe.schedules import registry


@pytest.mark.parametrize(
  ('page', 'num_compared'),
  [
    ('choosing.md', 11),
    ('fine_tuning.md', 1),
    ('from_lingvo_gpipe.md', 1),
    ('tutorial.md', 2),
  ],
)
def test_every_program_prints_what_the_page_says(
  page, num_compared, tmp_path, monkeypatch
):
  monkeypatch.setattr(registry, 'registered', {})  # A page registers one.
  assert page_testing.follow(page, tmp_path) == num_compared
