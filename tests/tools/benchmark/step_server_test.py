# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import contextlib
import dataclasses
import os

import pytest

from tools.benchmark import (
  cases,
  device_memory,
  process_memory,
  step_server,
  step_worker,
  train_step,
  variants,
)
from tools.benchmark.forked_worker import WorkerError

_CASE = cases.TINY_CASES[0]
[_VARIANT] = variants.expand(_CASE, variants.named_methods(['ours-1f1b-never']))
_GIVEN = {
  'case': dataclasses.asdict(_CASE),
  'variant': dataclasses.asdict(_VARIANT),
  'splits': [2],
}


class _TrainStep:
  """A training step whose loss counts the steps."""

  num_ops = 5

  def __init__(self, case, variant, splits, workers=None):
    assert (case, variant, splits) == (_CASE, _VARIANT, [2])
    self._losses = iter([9.0, 8.0, 7.0])

  def run(self):
    return next(self._losses)


@pytest.fixture(autouse=True)
def fake_step(monkeypatch):
  monkeypatch.setattr(train_step, 'TrainStep', _TrainStep)


def test_a_worker_builds_and_runs_its_variant():
  worker = step_worker.StepWorker(_CASE, _VARIANT, [2])
  built = worker.carry_out({'do': 'build'})
  assert (built['losses'], built['ops']) == ([9.0], 5)
  assert built['graph_seconds'] >= 0 <= built['first_step_seconds']
  steps = worker.carry_out({'do': 'steps', 'count': 2})
  assert steps['losses'] == [8.0, 7.0]
  assert len(steps['seconds']) == len(steps['cpu_seconds']) == 2


def test_a_server_has_each_variant_in_a_process_of_its_own():
  server = step_server.StepServer()
  try:
    for number in range(2):
      started = server.carry_out({'do': 'start', **_GIVEN})
      assert started['worker'] == number
    [pid] = started['pids']
    for number in range(2):
      command = {'do': 'work', 'worker': number, 'command': {'do': 'build'}}
      assert server.carry_out(command)['losses'] == [9.0]
    with pytest.raises(WorkerError, match='_none'):
      command = {'do': 'work', 'worker': 0, 'command': {'do': 'none'}}
      server.carry_out(command)
  finally:
    server.carry_out({'do': 'stop'})
  with pytest.raises(ProcessLookupError):
    os.kill(pid, 0)


def test_a_device_needs_what_its_process_had_beyond_idle_and_code(monkeypatch):
  @contextlib.contextmanager
  def servers(num_workers):
    yield [10, 11], 'target'

  def of(values):
    return lambda pid: values[pid - 10]

  monkeypatch.setattr(device_memory.worker_servers, 'worker_servers', servers)
  monkeypatch.setattr(
    device_memory.lingvo_processes,
    'known_to_channels',
    lambda target: contextlib.nullcontext(),
  )
  monkeypatch.setattr(process_memory, 'anonymous_bytes', of([5, 6]))
  monkeypatch.setattr(process_memory, 'peak_bytes', of([100, 200]))
  monkeypatch.setattr(process_memory, 'file_bytes', of([20, 30]))
  announced = []
  found = device_memory.run(_CASE, _VARIANT, [2], announced.append)
  assert announced == [[10, 11]]
  assert found == {'peaks': [100 - 20 - 5, 200 - 30 - 6]}
