# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""TensorFlow's writer for TensorBoard, made to survive a full disk.

TensorFlow's raises what went wrong at some later call, once, and writes nothing
from then on, also when there is room again.
"""

import time

import lingvo.compat as tf

from lingvo_gpipe.training import checkpoints, notices, user_error

# After a failure: until the next file is begun.
_RETRY_SECONDS = 60.0


class SummaryWriter:
  """Writes summaries; what can't be written is left out, with a warning.

  It can do what a `tf.summary.FileWriter` can.

  Args:
    make: A function without arguments that returns a new `FileWriter`.
    clock: A function that returns seconds.
  """

  def __init__(self, make, clock=time.monotonic):
    self._make = make
    self._clock = clock
    self._writer = make()
    self._no_write_before = None

  def __getattr__(self, name):
    value = getattr(self._writer, name)
    if not callable(value):
      return value

    def call(*args, **kwargs):
      return self._call(name, *args, **kwargs)

    return call

  def _call(self, name, *args, **kwargs):
    try:
      if self._no_write_before is not None:
        if self._clock() < self._no_write_before:
          return None
        with tf.Graph().as_default():  # It asks for graph mode.
          self._writer = self._make()
        self._no_write_before = None
      return getattr(self._writer, name)(*args, **kwargs)
    # The writer's thread makes a RuntimeError of some.
    except (*checkpoints.WRITE_ERRORS, RuntimeError) as error:
      self._no_write_before = self._clock() + _RETRY_SECONDS
      notices.warn(
        f'summaries could not be written ({user_error.reason(error)}). '
        f'Training continues; the next try is in {_RETRY_SECONDS:.0f} s.'
      )
      return None
