# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whatever the layers, no cut, schedule or policy changes a bit."""

from drawn_layers import worker


def test_every_variant_gives_the_same_bits():
  # tools/random_layers.py makes small what fails; it takes minutes.
  assert not worker.run(24, shrink_seconds=0)
