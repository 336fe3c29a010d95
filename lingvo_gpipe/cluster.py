# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's cluster, with splits over several workers and one view of devices.

A split, the devices of one pipeline, may span workers, in order:

    workers x devices   split size   splits
    1 x 4               4            [w0d0 w0d1 w0d2 w0d3]
    4 x 1               4            [w0d0 w1d0 w2d0 w3d0]
    4 x 1               2            [w0d0 w1d0] [w2d0 w3d0]
    2 x 4               2            [w0d0 w0d1] [w0d2 w0d3] [w1d0 w1d1] ...

In Lingvo's cluster each job has its own view of the devices. So the trainer's
weights would not be where the controller's are, and it would wait forever.
"""

from typing import Any

from lingvo.core import cluster as lingvo_cluster
from lingvo.core import cluster_factory

from lingvo_gpipe import cpu_devices


class PipelineCluster(lingvo_cluster._Cluster):
  @property
  def job_spec(self) -> Any:
    """The worker's, for jobs that drive workers or share their process."""
    own = super().job_spec
    worker = self.params.worker
    if own is None or own.name == worker.name or self._drives_workers:
      return worker
    return own

  @property
  def _drives_workers(self) -> bool:
    return self.synchronous and self.job in ('trainer_client', 'controller')

  @property
  def _spans_workers(self) -> bool:
    return (
      self._drives_workers
      and not self.job_spec.tpus_per_replica
      and self.num_devices_per_split > self.num_devices_per_replica
    )

  @property
  def num_splits_per_replica(self) -> int:
    """Splits in a row of `available_devices`."""
    return 1 if self._spans_workers else super().num_splits_per_replica

  @property
  def num_splits_per_client(self) -> int:
    """How many pipelines train side by side."""
    if not self._drives_workers:
      return super().num_splits_per_client
    if self._spans_workers:
      return len(self.available_devices)
    return self.num_splits_per_replica * self.num_replicas

  @property
  def available_devices(self) -> Any:
    """The devices' names, an array whose rows are workers or whole splits."""
    if not self._drives_workers or self.job_spec.tpus_per_replica:
      return super().available_devices
    devices = self.ListDevices(self.job_spec)
    if self._spans_workers:
      return devices.reshape(-1, self.num_devices_per_split)
    return devices

  def _CheckInvariants(self) -> None:
    super()._CheckInvariants()
    if self.params.job in ('trainer_client', 'controller'):
      check_splits(self.params.worker)


def check_splits(worker: Any) -> None:
  """Raises ValueError if the workers' devices don't divide into such splits."""
  if worker.tpus_per_replica:
    return
  each = worker.gpus_per_replica or worker.cpus_per_replica
  size, total = worker.devices_per_split, each * worker.replicas
  have = f'{worker.replicas} worker(s) with {each} device(s) each'
  if size < 1 or size > total:
    raise ValueError(
      f'--worker_split_size={size}: there are {have}; a pipeline can have 1 to '
      f'{total} devices.'
    )
  if (each % size and size % each) or total % size:
    sizes = (n for n in range(1, total + 1) if not total % n)
    fits = [n for n in sizes if not each % n or not n % each]
    raise ValueError(
      f'--worker_split_size={size}: {have} do not divide into pipelines of '
      f'that size; use one of {fits}.'
    )


def install() -> None:
  cluster_factory.SetCluster(PipelineCluster)


def use_cpu_devices(
  cluster_params: Any, num_devices: int, split_size: int | None = None
) -> None:
  """Gives workers and evaluation jobs several CPU devices each, in place.

  A worker has `num_devices`; a pipeline, and an evaluation job, `split_size`
  (default: the same). ValueError if one is below 1. Sessions or servers must
  have as many, see `cpu_devices.session_config`.
  """
  split_size = num_devices if split_size is None else split_size
  for name, value in (('num_devices', num_devices), ('split_size', split_size)):
    if value < 1:
      raise ValueError(f'{name}={value}: a pipeline needs at least one device.')
  worker = cluster_params.worker
  for spec in (worker, cluster_params.ps):
    if spec.name == worker.name:
      spec.cpus_per_replica = num_devices
      spec.devices_per_split = split_size
  for job in ('evaler', 'decoder'):
    spec = cluster_params.Get(job)
    spec.cpus_per_replica = spec.devices_per_split = split_size


def prepare_devices() -> None:
  """Prepares this process, before a pipeline is built, for CPU devices."""
  worker = cluster_factory.Current().params.worker
  others = worker.gpus_per_replica or worker.tpus_per_replica
  if worker.cpus_per_replica > 1 and not others:
    cpu_devices.keep_ops_on_one_thread()
