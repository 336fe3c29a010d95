# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import os
import subprocess

import pytest

from tools.benchmark import cases, process_memory, variants, workers
from tools.benchmark.fresh import ProcessError
from tools.benchmark.measured import Cut, WorkerRun
from tools.benchmark.speed_estimate import Plan

pytestmark = pytest.mark.skipif(
  not process_memory.available(), reason='/proc takes Linux'
)

_CASE = cases.TINY_CASES[0]
_OURS, _TORCH = variants.expand(
  _CASE, variants.named_methods(['ours-1f1b-never', 'torch-gpipe-always'])
)
_CUT = Cut([2], ['a'] * 4, [(1.0, 2.0)] * 2, 'flops')
_PLAN = Plan(torch_python='/some/python')


class _Peer:
  """PyTorch's first rank, which notes what it is told."""

  def __init__(self, python, file, argument):
    assert (python, os.path.basename(file)) == (
      '/some/python',
      'torch_worker.py',
    )
    self.argument = argument
    self.asked = []
    self.pids = [os.getpid()]

  def receive(self):
    return {'reply': {'pids': self.pids, 'torch': '9.9'}}

  def ask(self, **command):
    self.asked.append(command)
    if command['do'] == 'fail':
      return {'error': 'it cannot'}
    return {'reply': {'losses': [1]}}

  def stop(self):
    self.asked.append('stop')


@pytest.fixture
def peers(monkeypatch):
  started = []

  def start(*args):
    started.append(_Peer(*args))
    return started[-1]

  monkeypatch.setattr(workers, 'ForeignProcess', start)
  monkeypatch.setattr(workers, 'bind_all_threads', lambda cores, pid: None)
  return started


def test_the_peer_is_told_of_the_case(peers):
  worker = workers.start(_CASE, _TORCH, _CUT, _PLAN)
  [peer] = peers
  assert peer.argument == {
    'layers': _CASE.num_layers,
    'dim': _CASE.dim,
    'batch': _CASE.batch,
    'micro_batches': _TORCH.num_micro_batches,
    'schedule': 'gpipe',
    'recompute': 'always',
    'splits': [2],
  }
  assert worker.version == 'PyTorch 9.9'
  assert worker.ask('steps', 3) == {'losses': [1]}
  with pytest.raises(ProcessError, match='it cannot'):
    worker.ask('fail')
  worker.stop()
  assert peer.asked == [
    {'do': 'steps', 'args': (3,)},
    {'do': 'fail', 'args': ()},
    'stop',
  ]


def test_a_device_needs_what_its_process_had_beyond_idle_and_code(
  peers, monkeypatch
):
  run = WorkerRun([9], [1], [3, 4], 5, 1.0, 1.0, 1.0)
  monkeypatch.setattr(workers.fresh, 'call', lambda *args: run)
  assert workers.device_bytes(_CASE, _OURS, _CUT, _PLAN) == [3, 4]
  for name, value in (
    ('anonymous_bytes', 5),
    ('peak_bytes', 100),
    ('file_bytes', 20),
  ):
    monkeypatch.setattr(process_memory, name, lambda pid, value=value: value)
  assert workers.device_bytes(_CASE, _TORCH, _CUT, _PLAN) == [100 - 20 - 5]
  assert [
    command if command == 'stop' else command['do']
    for command in (peers[0].asked)
  ] == ['build', 'stop']


def test_a_variant_of_ours_is_built_run_bound_and_ended():
  worker = workers.start(_CASE, _OURS, _CUT, _PLAN)
  try:
    built = worker.ask('build')
    assert built['ops'] > 0 and len(built['losses']) == 1
    cores = sorted(os.sched_getaffinity(0))
    worker.pin(one_core=True)
    assert sorted(os.sched_getaffinity(worker.pids[0])) == cores[:1]
    worker.pin(one_core=False)
    assert sorted(os.sched_getaffinity(worker.pids[0])) == cores
    steps = worker.ask('steps', 2)
    assert len(steps['seconds']) == len(steps['cpu_seconds']) == 2
    assert steps['losses'][-1] < built['losses'][0]
  finally:
    worker.stop()
  with pytest.raises(ProcessLookupError):
    os.kill(worker.pids[0], 0)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='takes two cores')
def test_ranks_of_the_peer_have_a_core_each(monkeypatch):
  cores = sorted(os.sched_getaffinity(0))
  with contextlib.ExitStack() as stack:
    pids = []
    for _ in range(2):
      process = subprocess.Popen(['sleep', '60'])
      stack.callback(process.wait)
      stack.callback(process.kill)
      pids.append(process.pid)

    def start(*args):
      peer = _Peer(*args)
      peer.pids = pids
      return peer

    monkeypatch.setattr(workers, 'ForeignProcess', start)
    worker = workers.start(_CASE, _TORCH, _CUT, _PLAN)

    def bound():
      return [sorted(os.sched_getaffinity(pid)) for pid in pids]

    assert bound() == [cores[:1], cores[1:2]]
    worker.pin(one_core=True)
    assert bound() == [cores[:1]] * 2
