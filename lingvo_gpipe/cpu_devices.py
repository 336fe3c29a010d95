# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Several CPU devices in one process that run side by side.

TensorFlow's CPU devices of a process share two pools of threads: one runs
ops, the other splits up the work inside an op. A pipeline keeps the cores busy
with its cells, so an op stays on one thread, which also makes its result
independent of the number of cores:

    ops:        thread 0 | cell 0: F0 F1 F2 B0 ...
                thread 1 | cell 1:    F0 B0 F1 ...
                thread 2 | input, metrics, weight updates
    inside ops: none, each runs on the thread that started it
"""

import tensorflow.compat.v1 as tf


def session_config(num_devices, config=None):
  """Returns the configuration of a session with `num_devices` CPU devices.

  The session gets a pool of its own to run ops. The one for the work inside
  ops is made once in a process, by its first session or server: let that be
  one with this configuration.

  Args:
    num_devices: Number of CPU devices, 1 or more.
    config: A `tf.ConfigProto` to start from; it is left as it was.

  Returns:
    A `tf.ConfigProto` with `num_devices` CPU devices and no GPU.
  """
  if num_devices < 1:
    raise ValueError(f'num_devices={num_devices} must be 1 or more.')
  result = tf.ConfigProto()
  if config is not None:
    result.CopyFrom(config)
  result.device_count['CPU'] = num_devices
  result.device_count['GPU'] = 0
  result.intra_op_parallelism_threads = 1
  result.use_per_session_threads = True
  result.inter_op_parallelism_threads = num_devices + 1
  return result
