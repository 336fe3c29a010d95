# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""K worker processes on this machine, each a TensorFlow server.

They are forked from a process that has imported everything, which saves the
time and the memory of K imports. That process must not have run TensorFlow
before: threads do not survive a fork.
"""

import contextlib
import multiprocessing
import os
import time
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from lingvo_gpipe.launching import local_cluster


def worker_device(task: int) -> str:
  """The name of the CPU device of a worker."""
  return f'/job:worker/replica:0/task:{task}/device:CPU:0'


@contextlib.contextmanager
def worker_servers(num_workers: int) -> Iterator[tuple[list[int], str]]:
  """Runs workers while the block does; they have a core each, in turn.

  Yields:
    The workers' process ids, and the target of sessions that use them. The
    session's master is a server of this process, so the workers do nothing but
    run their share of the graph.
  """
  addresses = [
    f'127.0.0.1:{port}' for port in local_cluster.free_ports(num_workers + 1)
  ]
  jobs = {'client': addresses[:1], 'worker': addresses[1:]}
  fork = multiprocessing.get_context('fork')
  workers = [
    fork.Process(target=_serve, args=(jobs, task, os.getpid()))
    for task in range(num_workers)
  ]
  try:
    for worker in workers:
      worker.start()
    pids = [worker.pid for worker in workers if worker.pid is not None]
    yield pids, _server(jobs, 'client', 0).target
  finally:
    for worker in workers:
      if worker.pid is not None:
        worker.kill()
        worker.join()


def pin(core: int) -> None:
  """Keeps this process, and threads that it starts, to one of its cores."""
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, {cores[core % len(cores)]})


def _serve(jobs: dict[str, list[str]], task: int, parent: int) -> None:
  """Runs a worker in a forked process, until its parent is gone."""
  pin(task)
  server = _server(jobs, 'worker', task)
  # The server runs for as long as it is referred to.
  while server and os.getppid() == parent:
    time.sleep(0.5)
  os._exit(0)


def _server(
  jobs: dict[str, list[str]], job: str, task: int
) -> tf.distribute.Server:
  return tf.distribute.Server(
    tf.train.ClusterSpec(jobs),
    job_name=job,
    task_index=task,
    config=tf.ConfigProto(
      device_count={'CPU': 1, 'GPU': 0},
      intra_op_parallelism_threads=1,
      inter_op_parallelism_threads=2,
    ),
  )
