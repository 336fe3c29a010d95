# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import importlib.util
import sys

import pytest

from tools.benchmark import torch_worker
from tools.benchmark.foreign import ForeignProcess
from tools.benchmark.fresh import ProcessError

_ARGUMENT = {
  'layers': 3,
  'dim': 8,
  'batch': 8,
  'micro_batches': 4,
  'recompute': 'always',
  'splits': [2],
}
_HAS_TORCH = importlib.util.find_spec('torch') is not None


@pytest.fixture
def start():
  started = []

  def start(schedule):
    argument = {**_ARGUMENT, 'schedule': schedule}
    started.append(
      ForeignProcess(sys.executable, torch_worker.__file__, argument)
    )
    return started[-1]

  yield start
  started[-1].stop()


@pytest.mark.skipif(_HAS_TORCH, reason='torch is installed')
def test_without_torch_it_says_what_to_do(start):
  with pytest.raises(ProcessError, match='pip install torch'):
    start('gpipe').receive()


@pytest.mark.skipif(not _HAS_TORCH, reason='takes torch')
@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
def test_trains_over_two_processes(start, schedule):
  process = start(schedule)
  assert len(set(process.receive()['reply']['pids'])) == 2
  built = process.ask(do='build')['reply']
  steps = process.ask(do='steps', args=[2])['reply']
  assert len(steps['seconds']) == len(steps['cpu_seconds']) == 2
  assert steps['losses'][-1] < built['losses'][0]
