# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The error that a step failed of, where TensorFlow raises only what followed.

A cell that fails cancels the step before its own error is returned, and with it
whatever its device still waits for:

    cell 0 on device 0: assertion failed -----> cancels the step
    device 0 waits for gradients from device 1: "RecvAsync is cancelled"
                                                 '--> is what a session raises

TensorFlow's log has the first error, and in a command it is a file, see `logs`.
"""

import os
import re
import stat

import lingvo.compat as tf
from tensorflow.core.protobuf import error_codes_pb2
from tensorflow.python.framework import errors_impl

_LOGGED = re.compile(
  r'rendezvous is aborting with status: (?!CANCELLED|ABORTED)([A-Z_]+): '
  r'((?:.|\n(?!\w\d{4} ))+)'
)


class Session(tf.Session):
  def run(self, fetches, *args, **kwargs):
    before = os.fstat(2)
    try:
      return super().run(fetches, *args, **kwargs)
    except tf.errors.CancelledError as error:
      if not stat.S_ISREG(before.st_mode):
        raise
      with open('/proc/self/fd/2', errors='replace') as log:
        log.seek(before.st_size)
        first = _LOGGED.search(log.read())
      if not first:
        raise
      code = error_codes_pb2.Code.Value(first[1])
      kind = errors_impl.exception_type_from_error_code(code)
      raise kind(None, None, first[2].strip()) from error
