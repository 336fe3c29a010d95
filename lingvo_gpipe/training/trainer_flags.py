# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The trainer's flags beside Lingvo's, defined without TensorFlow."""

from absl import flags

from lingvo_gpipe import schedules

flags.DEFINE_integer(
  'max_steps',
  None,
  'Train to this step. Default: as the model says.',
  lower_bound=1,
)
flags.DEFINE_integer(
  'micro_batches',
  None,
  'M: the micro-batches that a mini-batch is split into. Default: as the model '
  'says.',
  lower_bound=1,
)
flags.DEFINE_enum(
  'schedule',
  None,
  schedules.SCHEDULE_NAMES,
  "Order of the pipeline's tasks. Default: as the model says.",
)
flags.DEFINE_enum(
  'recompute',
  None,
  schedules.RECOMPUTE_POLICIES,
  'Which micro-batches have their forward pass recomputed in the backward '
  'pass, to save memory. Default: as the model says.',
)
flags.DEFINE_integer(
  'worker_cpus',
  None,
  'CPU devices of a worker without GPUs and TPUs. Default: with --run_locally, '
  'those of one pipeline (--worker_split_size); with --cluster_spec, 1.',
  lower_bound=1,
)
flags.DEFINE_integer(
  'worker_wait_seconds',
  300,
  'How long to wait at the start for workers of --cluster_spec that have not '
  'started yet.',
  lower_bound=0,
)
