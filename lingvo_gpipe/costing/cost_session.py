# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sessions that leave training's threads alone."""

import tensorflow.compat.v1 as tf

from lingvo_gpipe import cpu_devices


def prepare_to_measure() -> None:
  """Has ops that are measured run on one thread each, where that is a device.

  Where there is no GPU a device of a pipeline is a core, see `cpu_devices`. To
  be in time this comes before anything is traced.
  """
  if not _has_gpu():
    cpu_devices.keep_ops_on_one_thread()


def session_config() -> tf.ConfigProto:
  """One op at a time, as on a device of a pipeline that is busy.

  The thread that runs ops is the session's own. Where there is no GPU an op
  stays on one thread, as in training: the first session of a process decides
  that for all that come later.
  """
  config = tf.ConfigProto(
    allow_soft_placement=True,
    inter_op_parallelism_threads=1,
    use_per_session_threads=True,
  )
  config.gpu_options.allow_growth = True
  # As in cells, nothing is optimised: what nobody reads is computed, too.
  config.graph_options.rewrite_options.disable_meta_optimizer = True
  if not _has_gpu():
    config.intra_op_parallelism_threads = 1
  return config


def _has_gpu() -> bool:
  return bool(tf.config.list_physical_devices('GPU'))
