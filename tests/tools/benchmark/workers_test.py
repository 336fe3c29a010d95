# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import importlib.util
import os
import sys

import pytest

from tools.benchmark import cases, workers
from tools.benchmark.measured import Cut
from tools.common.fresh import ProcessError

_CASE = cases.TINY_CASES[0]
_OURS, _TORCH = cases.variants(_CASE, ['ours-1f1b-never', 'torch-gpipe-always'])
_CUT = Cut([2], ['a'] * 4, [(1.0, 2.0)] * 2, 'flops')
_HAS_TORCH = importlib.util.find_spec('torch') is not None

_STAND_IN = """
import json, os, sys
config = json.loads(sys.argv[1])
names = 'PYTHONPATH', 'OMP_NUM_THREADS'
config['environment'] = [os.environ.get(name) for name in names]
print(json.dumps('9.9'), flush=True)
for line in sys.stdin:
  method, *arguments = json.loads(line)
  if method == 'fail':
    sys.exit(f'no more beer on {config["rank"]}')
  rank = config['rank']
  reply = {'losses': [rank], 'step_seconds': [1.0 + rank]}
  print(json.dumps({**reply, 'told': [config, method, arguments]}), flush=True)
"""


@pytest.fixture
def ranks(tmp_path, monkeypatch):
  """PyTorch's ranks, which tell what they were told."""
  monkeypatch.setenv('PYTHONPATH', '/some/where')
  file = tmp_path / 'ranks.py'
  file.write_text(_STAND_IN)
  monkeypatch.setattr(workers, '_TORCH', file)
  worker = workers.start(_TORCH, _CUT, sys.executable)
  assert len(worker.pids) == 2
  yield worker
  worker.stop()
  _assert_gone(worker.pids)


def _assert_gone(pids):
  for pid in pids:
    with pytest.raises(ProcessLookupError):
      os.kill(pid, 0)


def test_the_peers_ranks_are_told_of_the_case_and_none_of_our_packages(ranks):
  assert ranks.version == 'PyTorch 9.9'
  reply = ranks.ask('steps', 3)
  config, *call = reply.pop('told')
  assert call == ['steps', [3]]
  assert config.pop('store')
  assert config == {
    'rank': 0,
    'layers': _CASE.num_layers,
    'dim': _CASE.dim,
    'batch': _CASE.batch,
    'micro_batches': _TORCH.num_micro_batches,
    'schedule': 'gpipe',
    'recompute': 'always',
    'splits': [2],
    'environment': [None, '1'],
  }
  # The last rank knows the loss.
  assert reply == {'losses': [1], 'step_seconds': [1.0]}


def test_a_rank_that_ended_is_told_with_its_last_words(ranks):
  for _ in range(2):
    with pytest.raises(ProcessError, match=r'status 1:\nno more beer on 0'):
      ranks.ask('fail')


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='takes two cores')
def test_ranks_have_a_core_each(ranks):
  cores = sorted(os.sched_getaffinity(0))

  def bound():
    return [sorted(os.sched_getaffinity(pid)) for pid in ranks.pids]

  assert bound() == [cores[:1], cores[1:2]]
  ranks.pin(one_core=True)
  assert bound() == [cores[:1]] * 2


@pytest.mark.skipif(_HAS_TORCH, reason='torch is installed')
def test_without_torch_it_says_so():
  with pytest.raises(ProcessError, match='/no/python cannot be started'):
    workers.start(_TORCH, _CUT, '/no/python')
  with pytest.raises(ProcessError, match="No module named 'torch'"):
    workers.start(_TORCH, _CUT, sys.executable)


@pytest.mark.skipif(not _HAS_TORCH, reason='takes torch')
@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
def test_the_peer_trains_over_two_processes(schedule):
  [variant] = cases.variants(_CASE, [f'torch-{schedule}-always'])
  worker = workers.start(variant, _CUT, sys.executable)
  try:
    built = worker.ask('build')
    steps = worker.ask('steps', 2)
  finally:
    worker.stop()
  assert len(steps['step_seconds']) == 2
  assert steps['losses'][-1] < built['losses'][0]


def test_a_variant_of_ours_is_built_run_bound_and_ended():
  worker = workers.start(_OURS, _CUT, '')
  try:
    built = worker.ask('build')
    assert len(built['losses']) == 1
    cores = sorted(os.sched_getaffinity(0))
    worker.pin(one_core=True)
    assert sorted(os.sched_getaffinity(worker.pids[0])) == cores[:1]
    worker.pin(one_core=False)
    assert sorted(os.sched_getaffinity(worker.pids[0])) == cores
    steps = worker.ask('steps', 2)
    assert len(steps['step_seconds']) == 2
    assert steps['losses'][-1] < built['losses'][0]
  finally:
    worker.stop()
  _assert_gone(worker.pids)
