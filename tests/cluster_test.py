# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import lingvo.compat as tf
import pytest
from lingvo.core import cluster_factory

from lingvo_gpipe import cluster

LOCAL = '/job:localhost'


def _cluster(job, num_devices, worker=LOCAL):
  p = cluster.PipelineCluster.Params()
  p.mode = 'sync'
  p.job = job
  p.worker.name = p.ps.name = worker
  p.evaler.replicas = p.decoder.replicas = 1
  cluster.use_cpu_devices(p, num_devices)
  return cluster.PipelineCluster(p)


@pytest.mark.parametrize('num_devices', [1, 2, 4])
@pytest.mark.parametrize(
  'job', ['trainer_client', 'controller', 'evaler', 'decoder']
)
def test_every_job_of_the_process_has_all_its_devices(job, num_devices):
  c = _cluster(job, num_devices)
  names = [
    f'{LOCAL}/replica:0/task:0/device:CPU:{k}' for k in range(num_devices)
  ]
  assert [c.WorkerDeviceInModelSplit(k) for k in range(num_devices)] == names
  assert c.num_devices_per_split == num_devices
  assert c.num_splits_per_client == 1
  assert c.available_devices.tolist() == [names]


def test_a_job_in_a_process_of_its_own_keeps_its_own_devices():
  c = _cluster('controller', 4, worker='/job:worker')
  assert c.job_spec.name == LOCAL
  assert c.num_devices_per_split == 1


def test_variables_may_be_placed_on_every_device():
  c = _cluster('trainer_client', 2)
  with tf.Graph().as_default(), c, tf.device(c.GetPlacer()):
    made = [
      tf.get_variable(f'v{i}', [4], use_resource=True).device for i in range(2)
    ]
  assert sorted(made) == [
    f'{LOCAL}/replica:0/task:0/device:CPU:{k}' for k in range(2)
  ]


def test_no_devices_is_an_error_that_names_the_number():
  with pytest.raises(ValueError, match='num_devices=0'):
    cluster.use_cpu_devices(cluster.PipelineCluster.Params(), 0)


def test_install_makes_lingvo_build_pipeline_clusters():
  before = cluster_factory.Cluster
  try:
    cluster.install()
    assert isinstance(cluster_factory.Current(), cluster.PipelineCluster)
  finally:
    cluster_factory.SetCluster(before)
