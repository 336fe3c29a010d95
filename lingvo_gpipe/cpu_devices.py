# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Several CPU devices in one process that run at the same time.

They share two pools of threads: one runs ops, the other divides the work inside
an op. The cells of a pipeline already keep the cores busy, so here each op runs
on one thread. So its result does not depend on the number of cores:

    ops:        thread 0 | cell 0: F0 F1 F2 B0 ...
                thread 1 | cell 1:    F0 B0 F1 ...
                thread 2 | input, metrics, weight updates
    inside ops: none, each runs on the thread that started it

The pool for the work inside ops is made once in a process: by its first session
or server, or when its first function is traced.
"""

import os
from typing import Any

import tensorflow.compat.v1 as tf
from absl import logging

_THREADS_VARIABLE = 'TF_NUM_INTRAOP_THREADS'


def keep_ops_on_one_thread() -> bool:
  """Makes TensorFlow run each op on one thread, unless a number has been set.

  Pipelines on several CPU devices call this. After the process has traced its
  first function it is too late: it logs a warning, once, and returns False.
  """
  threading = tf.config.threading
  if (
    os.environ.get(_THREADS_VARIABLE)
    or threading.get_intra_op_parallelism_threads()
  ):
    return True
  try:
    threading.set_intra_op_parallelism_threads(1)
  except RuntimeError:
    logging.log_first_n(
      logging.WARNING,
      "TensorFlow's threads were started before a pipeline on CPU devices was "
      'built, so ops on different devices slow each other down. Set '
      f'{_THREADS_VARIABLE}=1 in the environment, or call lingvo_gpipe.'
      'cpu_devices.keep_ops_on_one_thread() before all else.',
      1,
    )
    return False
  return True


def session_config(num_devices: int, config: Any = None) -> Any:
  """A `tf.ConfigProto` for a session with CPU devices, and no GPU.

  Ops run in a pool of its own, on one thread each. It starts from `config`,
  which is left as it was. ValueError for no devices.
  """
  if num_devices < 1:
    raise ValueError(f'num_devices={num_devices} must be 1 or more.')
  if num_devices > 1:
    keep_ops_on_one_thread()
  result = tf.ConfigProto()
  if config is not None:
    result.CopyFrom(config)
  result.device_count['CPU'] = num_devices
  result.device_count['GPU'] = 0
  result.intra_op_parallelism_threads = 1
  result.use_per_session_threads = True
  result.inter_op_parallelism_threads = num_devices + 1
  return result
