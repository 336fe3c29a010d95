# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's trainer, made to run pipelines.

It has all flags of Lingvo's trainer. To train on K CPU devices in this process:

  python -m lingvo_gpipe.trainer --model=image.digits.AmoebaNetD \\
      --logdir=/tmp/digits --run_locally=cpu --worker_split_size=K
"""

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from lingvo_gpipe.tracing import trace_flags
from lingvo_gpipe.training import command, trainer_flags, user_error

# Lingvo's flags that --help lists beside ours.
_KEY_FLAGS = (
  'model',
  'logdir',
  'mode',
  'on_nan_loss',
  'job',
  'task',
  'run_locally',
  'worker_split_size',
  'cluster_spec',
)


def _load(argv: Sequence[str]) -> Callable[[Any, float], None]:
  from absl import flags

  from lingvo_gpipe.tracing import step_tracer
  from lingvo_gpipe.training import model_lookup, trainer_run

  for name in _KEY_FLAGS:
    flags.declare_key_flag(name)
  flags.adopt_module_key_flags(trainer_flags)
  flags.adopt_module_key_flags(step_tracer)
  # A model's module may define flags: Lingvo's trainer imports it first, too.
  # It may register a schedule, which no flag can name before.
  with contextlib.suppress(flags.Error, ValueError):
    flags.FLAGS(argv, known_only=True)  # Errors are said by the next parsing.
  if flags.FLAGS.is_parsed():
    if flags.FLAGS.model:
      model_lookup.find_model(flags.FLAGS.model)
    flags.FLAGS.unparse_flags()

  def body(log: Any, loading_seconds: float) -> None:
    trainer_run.run(log, loading_seconds, step_tracer.listeners)

  return body


def _check(values: Any) -> None:
  for flag in ('model', 'logdir'):
    if not values[flag].value:
      raise user_error.UserError(f'--{flag}: give one; it has no default.')
  mode, jobs = values['mode'].value, values['job'].value
  if mode not in trainer_flags.MODES:
    raise user_error.unknown('mode', mode, 'mode', mode, trainer_flags.MODES)
  trainer_flags.check_jobs(jobs)
  size = values['worker_split_size'].value
  if size < 1:
    raise user_error.UserError(
      f'--worker_split_size={size}: a pipeline needs at least one device; give '
      '1 or more.'
    )
  trace_flags.check(values)
  if values['use_eager'].value and 'executor' not in jobs:
    raise user_error.UserError(
      '--use_eager: leave it out; this trainer runs graphs, which its '
      'protection against kills and losses that are not finite needs.'
    )


def preload() -> None:
  from lingvo_gpipe.tracing import step_tracer  # noqa: F401
  from lingvo_gpipe.training import trainer_run  # noqa: F401


def check_flags(argv: Sequence[str]) -> None:
  """Checks flags, without a program's name, see `command.check_flags`."""
  command.check_flags('trainer', ['trainer', *argv], _check)


def main(argv: Sequence[str] | None = None, name: str = 'trainer') -> int:
  argv = sys.argv if argv is None else argv
  return command.run(name, __doc__, lambda: _load(argv), argv, _check)


def run_command() -> NoReturn:
  command.exit_at_once(main())


if __name__ == '__main__':
  run_command()
