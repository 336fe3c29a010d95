# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks the flags of `step_tracer`, without TensorFlow."""

from absl import flags

from lingvo_gpipe.tracing import picture
from lingvo_gpipe.training import user_error


def check(values: flags.FlagValues) -> None:
  """Checks what a command line says of tracing.

  Raises:
    UserError: It cannot trace.
  """
  step = values['trace_step'].value
  if step is None:
    for name in ('trace_steps', 'trace_dir'):
      if values[name].present:
        raise user_error.UserError(
          f'--{name}={values[name].value} needs --trace_step: which step to '
          'trace first.'
        )
    return
  for name in ('use_eager', 'tpu'):
    if values[name].value:
      raise user_error.UserError(
        f'--trace_step={step}: only graphs are traced, on CPUs and GPUs; leave '
        f'out --{name}.'
      )
  if not picture.available():
    raise user_error.UserError(
      f'--trace_step={step}: {picture.NEEDS_MATPLOTLIB}.'
    )
