# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether this machine has the GPUs that are asked for."""

import tensorflow.compat.v2 as tf

from lingvo_gpipe.training import user_error


def check(wanted, flags):
  """Checks that TensorFlow sees enough GPUs.

  Args:
    wanted: How many are needed.
    flags: The flags that ask for them, for the error.

  Raises:
    UserError: if there are fewer.
  """
  found = len(tf.config.list_physical_devices('GPU'))
  if found >= wanted:
    return
  if found:
    remedy = f'Use {found} or fewer'
  else:
    remedy = (
      'Check with nvidia-smi whether the driver finds any, and install '
      "TensorFlow with pip install 'tensorflow[and-cuda]'; or train with "
      '--run_locally=cpu'
    )
  raise user_error.UserError(
    f'{flags}: {wanted} GPU(s) are requested, but TensorFlow finds {found} on '
    f'this machine. {remedy}.'
  )
