# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A process that runs variants, each in a fork of its own.

It imports everything once. Its parent writes commands, one JSON object a line,
and reads replies, {"reply": ...} or {"error": text}; see `child_process`.

  {"do": "cut", "case": ..., "num_cells": K}
  {"do": "start", "case": ..., "variant": ..., "splits": ...}
      starts a worker; the reply has its `worker` number, and `pids`
  {"do": "work", "worker": n, "command": ...}
      has the worker carry out a command, see `step_worker`
  {"do": "stop"}
      ends all workers
  {"do": "memory", "case": ..., "variant": ..., "splits": ...}
      measures the devices' memory, see `device_memory`
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from tools.benchmark import (
  forked_worker,
  step_worker,
  variants,
  watched_fork,
)
from tools.benchmark.cases import Case

_TIMEOUT = 600.0
_NO_BUDGET = 2**62


class StepServer:
  """Carries out commands. Must not run TensorFlow itself."""

  def __init__(self) -> None:
    self._workers: list[forked_worker.ForkedWorker] = []

  def carry_out(self, command: dict[str, Any]) -> Any:
    """Carries out one command; returns the reply.

    Raises:
      WorkerError: A worker failed.
    """
    command = dict(command)
    return getattr(self, f'_{command.pop("do")}')(**command)

  def _cut(self, case: dict[str, Any], num_cells: int) -> dict[str, Any]:
    from tools.benchmark import case_cut

    return _in_fork(lambda announce: case_cut.find(Case(**case), num_cells))

  def _start(
    self, case: dict[str, Any], variant: dict[str, Any], splits: list[int]
  ) -> dict[str, Any]:
    def make() -> Callable[[dict[str, Any]], Any]:
      worker = step_worker.StepWorker(
        Case(**case), variants.from_json(variant), splits
      )
      return worker.carry_out

    worker = forked_worker.ForkedWorker(make)
    self._workers.append(worker)
    return {'worker': len(self._workers) - 1, 'pids': [worker.pid]}

  def _work(self, worker: int, command: dict[str, Any]) -> Any:
    return self._workers[worker].ask(command)

  def _stop(self) -> None:
    while self._workers:
      self._workers.pop().stop()

  def _memory(
    self, case: dict[str, Any], variant: dict[str, Any], splits: list[int]
  ) -> dict[str, Any]:
    from tools.benchmark import device_memory

    return _in_fork(
      lambda announce: device_memory.run(
        Case(**case), variants.from_json(variant), splits, announce
      )
    )


def _in_fork(function: Callable[[Callable[[list[int]], None]], Any]) -> Any:
  found = watched_fork.call(function, _NO_BUDGET, _TIMEOUT)
  if 'result' not in found:
    raise forked_worker.WorkerError(found.get('error', str(found)))
  return found['result']


def serve() -> None:
  """Carries out commands until standard input ends."""
  replies = os.fdopen(os.dup(1), 'w')
  # What libraries print is not to be taken for a reply.
  os.dup2(2, 1)

  def reply(value: dict[str, Any]) -> None:
    replies.write(json.dumps(value) + '\n')
    replies.flush()

  from absl import flags

  flags.FLAGS(sys.argv[:1])
  # Imported here once, and forked from then on.
  from tools.benchmark import (  # noqa: F401
    case_cut,
    device_memory,
    train_step,
  )

  server = StepServer()
  reply({'reply': 'ready'})
  for line in sys.stdin:
    try:
      reply({'reply': server.carry_out(json.loads(line))})
    except forked_worker.WorkerError as error:
      reply({'error': str(error)})
  server.carry_out({'do': 'stop'})


if __name__ == '__main__':
  serve()
