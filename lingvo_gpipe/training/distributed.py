# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The processes of --cluster_spec: who they are, their servers and sessions.

    trainer_client: session --> own server --> worker 0: cell 0
                    (or worker 0's, if the      worker 1: cell 1
                    spec has no trainer)        ...

The session's master is the trainer's own server where it has one: no worker
then has more to do than its cells, and an error says itself in the trainer.
"""

import os
import re
import socket
import time

import tensorflow.compat.v1 as tf

from lingvo_gpipe import cpu_devices
from lingvo_gpipe.launching import private_network
from lingvo_gpipe.training import logs, user_error

# Jobs that place their ops on the workers.
DRIVERS = ('trainer_client', 'controller')
# Jobs that only run the ops of others.
SERVING = ('worker', 'ps', 'input')


def parse_cluster_spec(text):
  """Reads 'job=host:port,host:port@job=host:port'; UserError if it is none."""
  spec = {}
  for part in text.split('@'):
    job, equals, addresses = part.partition('=')
    if not job or not equals or job in spec:
      raise user_error.UserError(
        f'--cluster_spec={text}: {part!r} is not job=host:port,host:port with '
        'a job of its own; separate jobs with @.'
      )
    spec[job] = addresses.split(',')
  seen = set()
  for job, addresses in spec.items():
    for address in addresses:
      if not re.fullmatch(r'\S+:\d+', address):
        raise user_error.UserError(
          f'--cluster_spec: {address!r} of job {job} is not host:port.'
        )
      if address in seen:
        raise user_error.UserError(
          f'--cluster_spec: {address} is there twice; each process needs a '
          'port of its own.'
        )
      seen.add(address)
  return spec


def check_place(spec, job, task):
  """Raises UserError if --job and --task have no place in the cluster."""
  if job in DRIVERS and 'worker' not in spec:
    raise user_error.UserError(
      f'--cluster_spec has jobs {", ".join(spec)}; --job={job} needs '
      'worker=host:port,... in it.'
    )
  if job == 'trainer_client' and job not in spec:
    return  # It needs no server of its own.
  if job not in spec:
    raise user_error.UserError(
      f'--job={job}: --cluster_spec has {", ".join(spec)}; choose one of them.'
    )
  if not 0 <= task < len(spec[job]):
    raise user_error.UserError(
      f'--task={task}: --cluster_spec has {len(spec[job])} process(es) of job '
      f'{job}; number them from 0.'
    )


def start_server(spec, job, task, num_cpus, num_gpus):
  """Starts this process's TensorFlow server; UserError if its port is taken."""
  if num_gpus:
    config = tf.ConfigProto(device_count={'GPU': num_gpus})
  else:
    config = cpu_devices.session_config(num_cpus)
    # A server has one pool of threads; sessions may not ask for their own.
    config.use_per_session_threads = False
  config.allow_soft_placement = True
  address = spec[job][task]
  try:
    # TensorFlow's server would share the port with another without a word.
    socket.create_server(('', int(address.rpartition(':')[2]))).close()
    server = tf.distribute.Server(
      tf.train.ClusterSpec(spec), job_name=job, task_index=task, config=config
    )
  except (OSError, tf.errors.OpError) as error:
    reason = str(error).strip()
    if isinstance(error, OSError):
      # Without the address that Python adds, which nobody has asked for.
      reason = os.strerror(error.errno)
    raise user_error.UserError(
      f'--cluster_spec: {job} {task} cannot have {address} ({reason}); choose '
      'a port that is free.'
    ) from error
  warn_of_open_port(server.target)
  return server


def warn_of_open_port(target):
  """Warns that others can reach the server at 'grpc://host:port', if they can.

  TensorFlow's servers listen on every network interface, also where
  --cluster_spec has loopback addresses only.
  """
  if private_network.is_private():
    return
  logs.warn(
    f'port {target.rpartition(":")[2]} of this machine is open on every '
    "network interface, and TensorFlow's server behind it has no "
    'authentication; run this only in a network that you trust.'
  )


def restrict_session(config, job, task):
  """Restricts a `tf.ConfigProto` to the processes that a job needs.

  Without that, a session starts only when every process of the cluster does,
  and hangs when one that it has no use for does.
  """
  config.device_filters[:] = [f'/job:{job}/task:{task}']
  if job in DRIVERS:
    config.device_filters.extend(f'/job:{name}' for name in SERVING)


class ServingRunner:
  """Does nothing but keep the process, and with it the server, alive."""

  enqueue_ops = None

  def __init__(self, server):
    self._server = server

  def Start(self):
    """Never returns."""
    # Not Server.join, which no Ctrl-C interrupts.
    while self._server:
      time.sleep(1)
