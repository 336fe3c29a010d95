# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from tools.benchmark.forked_worker import ForkedWorker, WorkerError


def _make():
  asked = []

  def carry_out(command):
    asked.append(command['n'])
    if command['n'] == 'fail':
      raise ValueError('no more beer')
    if command['n'] == 'end':
      os._exit(3)
    return {'asked': asked, 'pid': os.getpid()}

  return carry_out


@pytest.fixture
def worker():
  worker = ForkedWorker(_make)
  yield worker
  worker.stop()


def test_carries_out_commands_in_a_process_of_its_own(worker):
  assert worker.ask({'n': 1})['asked'] == [1]
  reply = worker.ask({'n': 2})
  assert reply == {'asked': [1, 2], 'pid': worker.pid}
  assert worker.pid != os.getpid()


def test_workers_do_not_disturb_each_other(worker):
  other = ForkedWorker(_make)
  assert worker.ask({'n': 1})['asked'] == [1]
  assert other.ask({'n': 5})['asked'] == [5]
  other.stop()
  assert worker.ask({'n': 2})['asked'] == [1, 2]


def test_a_failure_is_told_and_the_worker_goes_on(worker):
  with pytest.raises(WorkerError, match='ValueError: no more beer'):
    worker.ask({'n': 'fail'})
  assert worker.ask({'n': 1})['asked'] == ['fail', 1]


def test_a_worker_that_ends_is_told(worker):
  for _ in range(2):
    with pytest.raises(WorkerError, match='ended without a reply'):
      worker.ask({'n': 'end'})


def test_a_stopped_worker_is_gone():
  worker = ForkedWorker(_make)
  worker.ask({'n': 1})
  worker.stop()
  with pytest.raises(ProcessLookupError):
    os.kill(worker.pid, 0)
