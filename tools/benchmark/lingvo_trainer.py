# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs Lingvo's own trainer, as it is, and prints where its time went.

  python -m tools.benchmark.lingvo_trainer --model=... --logdir=... \\
      --run_locally=cpu --mode=sync
"""

import sys
import time
from collections.abc import Sequence
from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command with flags of Lingvo's trainer; returns its status."""
  started = time.monotonic()
  argv = sys.argv if argv is None else argv
  from absl import flags
  from lingvo import trainer
  from lingvo.core import (
    py_utils,
    tpu_embedding_layers_v2,
    tpu_embedding_manager,
  )

  from lingvo_gpipe.training import listeners, model_lookup, stage_times

  class TimedManager(trainer.RunnerManager):
    """Lets a listener follow what it runs."""

    def CreateRunners(self, jobs: Any, logdir: str, trial: Any = None) -> Any:
      del trial
      runners = super().CreateRunners(
        jobs, logdir, listeners.ObservingTrial([stages])
      )
      stages.trainer_built(None)
      return runners

  flags.FLAGS(argv)
  model = model_lookup.find_model(flags.FLAGS.model)
  py_utils.SetEagerMode(False)
  tpu_embedding_layers_v2.TPU_EMBEDDING_MANAGER = (
    tpu_embedding_manager.TPUEmbeddingManager()
  )
  stages = stage_times.StageListener(time.monotonic() - started)
  TimedManager(model).Start()
  times = stages.times()
  if times is not None:
    print(times.to_text(), flush=True)
  return 0


if __name__ == '__main__':
  sys.exit(main())
