# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe import cluster

LOCAL = '/job:localhost'
WORKER = '/job:worker'


def _cluster(job, devices, *, replicas=1, split_size=None, worker=WORKER):
  p = cluster.PipelineCluster.Params()
  p.mode = 'sync'
  p.job = job
  p.worker.name = p.ps.name = worker
  p.worker.replicas = p.ps.replicas = replicas
  p.evaler.name = LOCAL if worker == LOCAL else '/job:evaler_test'
  p.evaler.replicas = p.decoder.replicas = 1
  cluster.use_cpu_devices(p, devices, split_size)
  return cluster.PipelineCluster(p)


@pytest.mark.parametrize('job', ['trainer_client', 'evaler', 'decoder'])
def test_every_job_of_the_process_has_all_its_devices(job):
  c = _cluster(job, 3, worker=LOCAL)
  names = [f'{LOCAL}/replica:0/task:0/device:CPU:{k}' for k in range(3)]
  assert [c.WorkerDeviceInModelSplit(k) for k in range(3)] == names
  assert c.num_devices_per_split == 3
  assert c.num_splits_per_client == 1
  assert c.available_devices.tolist() == [names]


@pytest.mark.parametrize('job', ['trainer_client', 'controller'])
@pytest.mark.parametrize(
  ('replicas', 'devices', 'split_size', 'splits'),
  [  # Of each device, task.device.
    (4, 1, 4, [['0.0', '1.0', '2.0', '3.0']]),
    (4, 1, 2, [['0.0', '1.0'], ['2.0', '3.0']]),
    (2, 2, 4, [['0.0', '0.1', '1.0', '1.1']]),
    (2, 2, 2, [['0.0', '0.1'], ['1.0', '1.1']]),
    (2, 2, 1, [['0.0'], ['0.1'], ['1.0'], ['1.1']]),
    (1, 4, 2, [['0.0', '0.1'], ['0.2', '0.3']]),
  ],
)
def test_splits_go_over_the_workers(job, replicas, devices, split_size, splits):
  c = _cluster(job, devices, replicas=replicas, split_size=split_size)
  for split, devices_of_split in enumerate(splits):
    c.params.split_id = split
    names = [c.WorkerDeviceInModelSplit(k) for k in range(split_size)]
    assert names == [
      '{}/replica:0/task:{}/device:CPU:{}'.format(WORKER, *device.split('.'))
      for device in devices_of_split
    ]
  assert c.num_splits_per_client == len(splits)
  assert c.num_devices_per_split == split_size
  # What Lingvo's BaseTask asserts before it makes the towers.
  rows = c.available_devices.tolist()
  assert c.num_splits_per_client == c.num_splits_per_replica * len(rows)


@pytest.mark.parametrize(
  ('replicas', 'devices', 'split_size', 'message'),
  [
    (2, 1, 3, 'a pipeline can have 1 to 2 devices'),
    (2, 2, 3, r'use one of \[1, 2, 4\]'),
    (3, 2, 4, r'use one of \[1, 2, 6\]'),
    (1, 0, None, 'num_devices=0'),
  ],
)
def test_splits_that_do_not_fit(replicas, devices, split_size, message):
  with pytest.raises(ValueError, match=message):
    _cluster(
      'trainer_client', devices, replicas=replicas, split_size=split_size
    )


def test_an_evaler_in_a_process_of_its_own_has_devices_of_its_own():
  c = _cluster('evaler', 1, replicas=4, split_size=2)
  assert [c.WorkerDeviceInModelSplit(k) for k in range(2)] == [
    f'/job:evaler_test/replica:0/task:0/device:CPU:{k}' for k in range(2)
  ]
