# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import os
import subprocess

import pytest

from tools.benchmark import cases, process_memory, variants, workers
from tools.benchmark.child_process import ChildError
from tools.benchmark.measured import Cut
from tools.benchmark.speed_estimate import Plan

pytestmark = pytest.mark.skipif(
  not process_memory.available(), reason='/proc takes Linux'
)

_CASE = cases.TINY_CASES[0]
_OURS, _TORCH = variants.expand(
  _CASE, variants.named_methods(['ours-1f1b-never', 'torch-gpipe-always'])
)
_CUT = Cut([2], ['a'] * 4, [(1.0, 2.0)] * 2, 'flops')


class _Child:
  """A child process that notes what it is told, and replies with it."""

  started = []

  def __init__(self, module, argument, environment=None, python=None):
    self.module = module
    self.argument = argument
    self.environment = environment
    self.python = python
    self.asked = []
    self.pids = []
    self.started.append(self)

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    self.asked.append('exit')

  def receive(self):
    return {'reply': {'pids': self.pids, 'torch': '9.9'}}

  def ask(self, **command):
    self.asked.append(command)
    if command['do'] == 'start':
      return {'reply': {'worker': 7, 'pids': [os.getpid()]}}
    if command.get('command', {}).get('do') == 'fail':
      return {'error': 'it cannot'}
    return {'reply': {'peaks': [1, 2]}}


@pytest.fixture
def children(monkeypatch):
  monkeypatch.setattr(workers, 'ChildProcess', _Child)
  monkeypatch.setattr(_Child, 'started', [])
  return _Child.started


@pytest.fixture
def pool():
  with contextlib.ExitStack() as stack:
    yield workers.Workers(Plan(torch_python='/some/python'), stack)


def test_one_server_runs_all_of_tensorflow(children, pool):
  first, second = (pool.start(_CASE, _OURS, _CUT) for _ in range(2))
  [server] = children
  assert [command['do'] for command in server.asked] == ['start', 'start']
  assert server.asked[0]['splits'] == [2]
  first.ask(do='steps', count=3)
  assert server.asked[-1] == {
    'do': 'work',
    'worker': 7,
    'command': {'do': 'steps', 'count': 3},
  }
  with pytest.raises(ChildError, match='it cannot'):
    second.ask(do='fail')
  pool.stop()
  assert server.asked[-1] == {'do': 'stop'}


def test_memory_is_measured_where_freed_blocks_go_back(children, pool):
  pool.start(_CASE, _OURS, _CUT)
  for slot in (0, 1, 1):
    assert pool.device_bytes(_CASE, _OURS, _CUT, slot) == [1, 2]
  timed, memory, other = children
  assert timed.environment == {}
  for child in (memory, other):
    assert child.environment == process_memory.ALIVE_ONLY_ENV
  assert len(other.asked) == 2


def test_the_peer_is_told_of_the_case_and_ends_with_its_turns(children, pool):
  worker = pool.start(_CASE, _TORCH, _CUT)
  [peer] = children
  assert peer.python == '/some/python'
  assert peer.argument == {
    'layers': _CASE.num_layers,
    'dim': _CASE.dim,
    'batch': _CASE.batch,
    'micro_batches': _TORCH.num_micro_batches,
    'schedule': 'gpipe',
    'recompute': 'always',
    'splits': [2],
  }
  assert peer.environment['OMP_NUM_THREADS'] == '1'
  assert worker.version == 'PyTorch 9.9'
  worker.ask(do='build')
  pool.stop()
  assert peer.asked == [{'do': 'build'}, 'exit']


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='takes two cores')
def test_workers_are_bound_to_a_core_and_let_go(children):
  cores = sorted(os.sched_getaffinity(0))
  with contextlib.ExitStack() as stack:
    processes = []
    for _ in range(2):
      process = subprocess.Popen(['sleep', '60'])
      stack.callback(process.wait)
      stack.callback(process.kill)
      processes.append(process)
    pids = [process.pid for process in processes]

    def bound():
      return [sorted(os.sched_getaffinity(pid)) for pid in pids]

    child = _Child('', None)
    worker = workers.Worker(child, cores)
    worker.pids = pids
    worker.pin(one_core=True)
    assert bound() == [cores[:1]] * 2
    worker.pin(one_core=False)
    assert bound() == [cores] * 2
    # Ranks of the peer have a core each.
    child.pids = pids
    worker.start_torch()
    assert bound() == [cores[:1], cores[1:2]]
