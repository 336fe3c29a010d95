# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Measures what each device of a variant needs, in a process of its own.

Device k is a TensorFlow server, a fork of this process; the session's master is
another. So the peak of a server's memory above what it had before the graph
came is what its cell needs: weights, gradients, activations. The pages of code
that it comes to touch are not counted.
"""

import time
from collections.abc import Callable
from typing import Any

from tools.benchmark import (
  lingvo_processes,
  process_memory,
  train_step,
  worker_servers,
)
from tools.benchmark.cases import Case
from tools.benchmark.variants import Variant

# The servers have started, and freed memory has gone back, after this.
_SETTLE_SECONDS = 0.3


def run(
  case: Case,
  variant: Variant,
  splits: list[int],
  announce: Callable[[list[int]], None],
) -> dict[str, Any]:
  """Runs a step on a server for each device.

  Args:
    case: What to train.
    variant: How.
    splits: The first layer of each cell but the first.
    announce: Called with the servers' process ids before they use memory.

  Returns:
    `peaks`, bytes of each device.
  """
  with worker_servers.worker_servers(variant.num_cells) as (pids, target):
    time.sleep(_SETTLE_SECONDS)
    announce(pids)
    idle = [process_memory.anonymous_bytes(pid) for pid in pids]
    with lingvo_processes.known_to_channels(target):
      step = train_step.TrainStep(case, variant, splits, target)
    step.run()
    peaks = [
      # Pages of files come in and stay.
      process_memory.peak_bytes(pid) - process_memory.file_bytes(pid)
      for pid in pids
    ]
  return {
    'peaks': [peak - level for peak, level in zip(peaks, idle, strict=True)]
  }
