# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The processes of --cluster_spec: who they are, their servers and sessions.

trainer_client: session --> own server --> worker 0: cell 0
                (or worker 0's, if the      worker 1: cell 1
                spec has no trainer)        ...
"""

import os
import re
import socket
import threading
import time
from concurrent import futures

import tensorflow.compat.v1 as tf

from lingvo_gpipe import cpu_devices
from lingvo_gpipe.launching import private_network
from lingvo_gpipe.training import logs, user_error

# Jobs that place their ops on the workers.
DRIVERS = ('trainer_client', 'controller')
SERVING = ('worker', 'ps', 'input')


def parse_cluster_spec(text):
  """Reads 'job=host:port,host:port@job=host:port'; UserError if it is none."""
  spec, seen = {}, set()
  for part in text.split('@'):
    job, equals, addresses = part.partition('=')
    if not job or not equals or job in spec:
      raise user_error.UserError(
        f'--cluster_spec={text}: {part!r} is not job=host:port,host:port with '
        'a job of its own; separate jobs with @.'
      )
    spec[job] = addresses.split(',')
    for address in spec[job]:
      if not re.fullmatch(r'\S+:\d+', address) or address in seen:
        raise user_error.UserError(
          f'--cluster_spec: {address!r} of job {job} is not host:port, or is '
          'there twice; each process needs a port of its own.'
        )
      seen.add(address)
  return spec


def check_place(spec, job, task):
  """Raises UserError if --job and --task have no place in the cluster."""
  needed = job
  if job in DRIVERS and 'worker' not in spec:
    needed = 'worker'
  elif job == 'trainer_client' and job not in spec:
    return  # It needs no server of its own.
  if needed not in spec:
    raise user_error.UserError(
      f'--job={job} needs {needed}=host:port,... in --cluster_spec, which has '
      f'{", ".join(spec)}.'
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
    if isinstance(error, OSError) and error.errno:
      # Without the address that Python adds, which nobody has asked for.
      reason = os.strerror(error.errno)
    raise user_error.UserError(
      f'--cluster_spec: {job} {task} cannot have {address} ({reason}); choose '
      'a port that is free.'
    ) from error
  warn_of_open_port(server.target)
  return server


def warn_of_open_port(target):
  """Warns if others can reach the server at 'grpc://host:port'."""
  if not private_network.is_private():
    logs.warn(
      f'port {target.rpartition(":")[2]} of this machine is open on every '
      "network interface, and TensorFlow's server behind it has no "
      'authentication; run this only in a network that you trust.'
    )


def restrict_session(config, job, task):
  """Restricts a `tf.ConfigProto` to the processes that a job needs.

  A session waits for all of them to start, and hangs when one does.
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
    # Not Server.join, which no Ctrl-C interrupts.
    while self._server:
      time.sleep(1)


_INTERVAL = 5.0
_DEADLINE = 15.0
_QUESTION = '/tensorflow.MasterService/ListDevices'
# A ListDevicesRequest: field 1, the session's handle, is 'watch'.
_REQUEST = b'\x0a\x05watch'


class WorkerLostError(user_error.UserError):
  """A worker's process is gone or hangs; the training can be started again."""

  exit_status = 3


def _lost(problems):
  return WorkerLostError(
    f'{"; ".join(problems)}. The checkpoints are intact: start the workers and '
    'the trainer again to resume from the last one.'
  )


class WorkerWatch:
  """Notices when a worker's process is gone or hangs.

  A session waits forever for such a worker. So each is asked a question now and
  then that needs none of its threads for computing: what devices a session has
  that it can't know. Any reply will do.

      every _INTERVAL s --> worker 0 --> "no such session" --> lives
                        --> worker 1 --> connection refused --> lost at once
                        --> worker 2 --> no reply in _DEADLINE s --> lost
  """

  def __init__(self, addresses, interval=_INTERVAL, deadline=_DEADLINE):
    self._addresses = {
      f'worker {task} ({address})': address
      for task, address in enumerate(addresses)
    }
    self._interval = interval
    self._deadline = deadline
    self._stopped = threading.Event()

  def _problem(self, name, deadline=None):
    """Asks a worker; returns what is wrong with it, '' if nothing is."""
    # Not before it is needed: gRPC's threads would not survive a fork.
    import grpc

    deadline = deadline or self._deadline
    with grpc.insecure_channel(
      self._addresses[name], options=[('grpc.enable_http_proxy', 0)]
    ) as channel:
      try:
        # Without serialisers, bytes go and come as they are.
        channel.unary_unary(_QUESTION)(_REQUEST, timeout=deadline)
      except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.UNAVAILABLE:
          return f'{name} does not accept connections: its process is gone'
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
          return f'{name} has not answered for {deadline:.0f} s: it hangs'
    return ''

  def wait_until_up(self, seconds):
    """Returns when all workers answer; WorkerLostError if one doesn't."""
    end = time.monotonic() + seconds
    for name in self._addresses:
      said = False
      while self._problem(name, min(5.0, self._deadline)):
        if time.monotonic() > end:
          raise WorkerLostError(
            f'{name} has not started within {seconds:.0f} s; start it, or '
            'correct its address in --cluster_spec.'
          )
        if not said:
          print(f'Waiting for {name} to start ...', flush=True)
          said = True
        time.sleep(0.2)

  def watch(self, on_lost):
    """Watches from now on, in a thread of its own for each worker."""

    def loop(name):
      while not self._stopped.wait(self._interval):
        problem = self._problem(name)
        if problem:
          on_lost(_lost([problem]))
          return

    for name in self._addresses:
      threading.Thread(target=loop, args=(name,), daemon=True).start()

  def explain(self, error):
    """What lies behind a session's error: a WorkerLostError, or the error."""
    with futures.ThreadPoolExecutor(len(self._addresses)) as pool:
      problems = list(filter(None, pool.map(self._problem, self._addresses)))
    return _lost(problems) if problems else error

  def stop(self):
    self._stopped.set()
