# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains a pipelined image model on real data, in minutes, on two cores.

Without flags, Lingvo's own trainer trains AmoebaNet-D, scaled down for the
handwritten digits that come with scikit-learn, as a pipeline over two CPU
devices in this process. Then the model is evaluated on images that were not
used in the training.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from lingvo_gpipe.tracing import trace_flags
from lingvo_gpipe.training import command, trainer_flags

_DEFAULT_MODEL = 'image.digits.AmoebaNetD'


def _define_flags() -> None:
  flags.DEFINE_integer(
    'devices',
    2,
    'K: the number of CPU devices of this process that the pipeline runs on.',
    lower_bound=1,
  )
  flags.DEFINE_alias('steps', 'max_steps')


def _load() -> Callable[[Any, float], None]:
  print('Loading TensorFlow and Lingvo ...', flush=True)
  from lingvo_gpipe.tracing import step_tracer
  from lingvo_gpipe.training import report

  for name in ('model', 'logdir'):
    flags.declare_key_flag(name)
  flags.adopt_module_key_flags(trainer_flags)
  flags.FLAGS.set_default('model', _DEFAULT_MODEL)
  flags.FLAGS.set_default('run_locally', 'cpu')

  def command_body(log: Any, loading_seconds: float) -> None:
    flags.FLAGS.worker_split_size = flags.FLAGS.devices
    report.train_evaluate_report(log, loading_seconds, step_tracer.listeners)

  return command_body


def main(argv: Sequence[str] | None = None) -> int:
  return command.run(
    'first_run', __doc__, _load, argv, trace_flags.check, _define_flags
  )


if __name__ == '__main__':
  sys.exit(main())
