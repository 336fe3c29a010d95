# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's cluster, with several CPU devices and one view of the devices.

Lingvo's own cluster gives each job of a process its own idea of the devices:
only the worker's split size comes from a flag, and every job has one CPU.
Cell k of a pipeline sits on `WorkerDeviceInModelSplit(k)`, so with it the
trainer's weights would lie on other devices than the controller's, and the
trainer would wait for ever for variables that nobody makes.
"""

from lingvo.core import cluster as lingvo_cluster
from lingvo.core import cluster_factory


class PipelineCluster(lingvo_cluster._Cluster):
  """A cluster whose jobs agree on the devices of a process they share."""

  @property
  def job_spec(self):
    """Params of this job's devices: the worker's, if it runs in its process."""
    own = super().job_spec
    worker = self.params.worker
    return worker if own is not None and own.name == worker.name else own


def install():
  """Makes `PipelineCluster` the cluster that Lingvo builds from now on."""
  cluster_factory.SetCluster(PipelineCluster)


def use_cpu_devices(cluster_params, num_devices):
  """Gives the worker's process CPU devices, one split of a pipeline together.

  The session must have as many devices, see `cpu_devices.session_config`.

  Args:
    cluster_params: Params of a cluster, changed in place.
    num_devices: Number of CPU devices, 1 or more.

  Raises:
    ValueError: if `num_devices` is not positive.
  """
  if num_devices < 1:
    raise ValueError(
      f'num_devices={num_devices}: a pipeline needs at least one device.'
    )
  worker = cluster_params.worker
  worker.cpus_per_replica = num_devices
  worker.devices_per_split = num_devices
  if cluster_params.ps.name == worker.name:
    cluster_params.ps.cpus_per_replica = num_devices
