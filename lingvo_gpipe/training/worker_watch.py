# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Notices when a worker's process is gone or hangs.

A session waits forever for a worker that hangs, and for one that has not
started. So each worker is asked a question now and then that needs none of its
threads for computing: what devices a session has that it can't know. Any reply
will do, "no such session" is one.

    every _INTERVAL s --> worker 0 --> "no such session" --> lives
                      --> worker 1 --> connection refused --> lost at once
                      --> worker 2 --> no reply in _DEADLINE s --> lost

A lost worker is noticed in less than _INTERVAL + _DEADLINE seconds.
"""

import threading
import time
from concurrent import futures

from lingvo_gpipe.training import user_error

_INTERVAL = 5.0
_DEADLINE = 15.0
_QUESTION = '/tensorflow.MasterService/ListDevices'
# A ListDevicesRequest: field 1, the session's handle, is 'watch'.
_REQUEST = b'\x0a\x05watch'


class WorkerLostError(user_error.UserError):
  """A worker's process is gone or hangs; the training can be started again."""

  exit_status = 3


class WorkerWatch:
  """Watches the workers of a cluster."""

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

  def lost(self):
    """Asks all workers at once; returns a list of what is wrong."""
    with futures.ThreadPoolExecutor(len(self._addresses)) as pool:
      return list(filter(None, pool.map(self._problem, self._addresses)))

  def wait_until_up(self, seconds, say=lambda line: None):
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
          say(f'Waiting for {name} to start ...')
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
    problems = self.lost()
    return _lost(problems) if problems else error

  def stop(self):
    """Ends the watch."""
    self._stopped.set()


def _lost(problems):
  return WorkerLostError(
    f'{"; ".join(problems)}. The checkpoints are intact: start the workers and '
    'the trainer again to resume from the last one.'
  )
