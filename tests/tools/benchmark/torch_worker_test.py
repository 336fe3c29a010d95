# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import importlib.util
import sys

import pytest

from tools.benchmark.child_process import ChildError, ChildProcess

_MODULE = 'tools.benchmark.torch_worker'
_ARGUMENT = {
  'layers': 3,
  'dim': 8,
  'batch': 8,
  'micro_batches': 4,
  'recompute': 'always',
  'splits': [2],
}
_HAS_TORCH = importlib.util.find_spec('torch') is not None


@pytest.mark.skipif(_HAS_TORCH, reason='torch is installed')
def test_without_torch_it_says_what_to_do():
  argument = {**_ARGUMENT, 'schedule': 'gpipe'}
  with (
    ChildProcess(_MODULE, argument, python=sys.executable) as child,
    pytest.raises(ChildError, match='pip install torch'),
  ):
    child.receive()


@pytest.mark.skipif(not _HAS_TORCH, reason='takes torch')
@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
def test_trains_over_two_processes(schedule):
  argument = {**_ARGUMENT, 'schedule': schedule}
  with ChildProcess(_MODULE, argument, python=sys.executable) as child:
    assert len(set(child.receive()['reply']['pids'])) == 2
    built = child.ask(do='build')['reply']
    steps = child.ask(do='steps', count=2)['reply']
  assert len(steps['seconds']) == len(steps['cpu_seconds']) == 2
  assert steps['losses'][-1] < built['losses'][0]
