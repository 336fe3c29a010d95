# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks that a model's pipeline computes what its plain layers do.

Runs one mini-batch of the model's input through the layers in sequence, and
through the pipeline with the model's M and with M = 1, each with the model's K
and with K = 1. Compares the metrics and the gradient of each layer, and shows
what differs, by how much, and why if it can tell.

  python -m lingvo_gpipe.check --model=image.digits.AmoebaNetD

Dropout is off, and nothing is trained or written. Exit status: 0 if nothing
differs, or if batch norm is the only reason; 1 if something differs; 2 if a
flag is wrong.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from lingvo_gpipe.training import command, user_error

_TOLERANCE = 1e-3
# Flags of the trainer and of Lingvo that --help lists.
_KEY_FLAGS = 'model model_params_override micro_batches schedule recompute'


def check_model(
  params: Any,
  num_devices: int = 2,
  tolerance: float = _TOLERANCE,
  say: Callable[[str], None] = lambda text: None,
) -> Any:
  """Compares a model's pipelines with their plain layers.

  Args:
    params: As `model_registry.GetParams(name, 'Train')` returns them.
    num_devices: This process's CPU devices; K if the model does not set it.
    tolerance: Relative difference up to which two values count as the same.
    say: Called with a line for each part of the work that is done.

  Returns a `model_check.Report`. Raises UserError for a model without pipeline.
  """
  from lingvo_gpipe.checking import model_check

  return model_check.check(params, num_devices, tolerance, say)


def _define_flags() -> None:
  flags.DEFINE_integer(
    'devices',
    2,
    "K, if the model does not set it: this process's CPU devices.",
    lower_bound=1,
  )
  flags.DEFINE_float(
    'tolerance',
    _TOLERANCE,
    'Relative difference up to which two values count as the same.',
    lower_bound=0.0,
  )


def _check(values: flags.FlagValues) -> None:
  if not values['model'].value:
    raise user_error.UserError('--model: give one; it has no default.')


def _load() -> Callable[[Any, float], int]:
  print('Loading TensorFlow and Lingvo ...', flush=True)
  from lingvo.core import py_utils

  from lingvo_gpipe import cluster
  from lingvo_gpipe.checking import model_check  # noqa: F401
  from lingvo_gpipe.training import model_lookup, runner_manager

  for name in _KEY_FLAGS.split():
    flags.declare_key_flag(name)
  values = flags.FLAGS
  values.set_default('run_locally', 'cpu')

  def command_body(log: Any, loading_seconds: float) -> int:
    model = model_lookup.find_model(values.model)
    py_utils.SetEagerMode(False)
    cluster.install()
    if values['devices'].present:
      values.worker_split_size = values.devices
    manager = runner_manager.RunnerManager(model, devices_flag='devices')
    # It finds K where the model fixes it.
    manager.MaybeConfigRunLocally()
    params = manager.GetParamsForDataset('trainer_client', 'Train')
    is_open = values['worker_split_size'].using_default_value
    report = check_model(
      params,
      values.devices if is_open else values.worker_split_size,
      values.tolerance,
      lambda text: print(f'Ran {text}.', flush=True),
    )
    print(f'\n{report.to_text()}')
    return 0 if report.same else 1

  return command_body


def main(argv: Sequence[str] | None = None) -> int:
  return command.run(
    'check', __doc__, _load, argv, check=_check, define=_define_flags
  )


if __name__ == '__main__':
  sys.exit(main())
