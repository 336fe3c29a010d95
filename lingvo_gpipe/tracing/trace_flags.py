# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks the flags of `step_tracer`, without TensorFlow."""

import importlib.util

from absl import flags

from lingvo_gpipe.training.user_error import UserError


def check(values: flags.FlagValues) -> None:
  """Raises UserError if one is wrong."""
  step = values['trace_step'].value
  if step is None:
    for name in ('trace_steps', 'trace_dir'):
      if values[name].present:
        raise UserError(
          f'--{name}={values[name].value} needs --trace_step: which step to '
          'trace first.'
        )
    return
  for name in ('use_eager', 'tpu'):
    if values[name].value:
      raise UserError(
        f'--trace_step={step}: only graphs are traced, on CPUs and GPUs; leave '
        f'out --{name}.'
      )
  if not importlib.util.find_spec('matplotlib'):
    raise UserError(
      'matplotlib is not installed, which draws traces: pip install '
      "'matplotlib' (or 'lingvo_gpipe[pictures]')."
    )
