# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe import cpu_devices
from lingvo_gpipe.costing import cost_session


@pytest.mark.parametrize(('gpus', 'threads'), [([], 1), (['GPU:0'], 0)])
def test_ops_stay_on_one_thread_where_training_runs_on_cpus(
  monkeypatch, gpus, threads
):
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: gpus)
  config = cost_session.session_config()
  assert config.intra_op_parallelism_threads == threads
  kept = []
  monkeypatch.setattr(
    cpu_devices, 'keep_ops_on_one_thread', lambda: kept.append(1)
  )
  cost_session.prepare_to_measure()
  assert len(kept) == threads


def test_the_thread_that_runs_ops_is_its_own():
  config = cost_session.session_config()
  assert config.inter_op_parallelism_threads == 1
  assert config.use_per_session_threads
