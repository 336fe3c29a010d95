# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import page_testing

from lingvo_gpipe.schedules import registry


def test_every_figure_is_what_the_program_above_it_prints(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(registry, 'registered', {})  # The page registers one.
  assert page_testing.follow('choosing.md', tmp_path) == 11
