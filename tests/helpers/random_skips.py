# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from lingvo_gpipe.cutting.skips import Skip


def random_skips(rng, num_layers, most_bytes=4):
  """Some skips, several from one layer and with several takers too."""
  skips = []
  for _ in range(rng.randint(0, 4) if num_layers > 1 else 0):
    source = rng.randrange(num_layers - 1)
    behind = range(source + 1, num_layers)
    takers = rng.sample(behind, rng.randint(1, min(3, len(behind))))
    skips.append(
      Skip(source, tuple(sorted(takers)), rng.randint(0, most_bytes))
    )
  return tuple(skips)
