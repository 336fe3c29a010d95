# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Steps on real workers, and what is made of readings of their memory."""

import contextlib

from tools.benchmark import worker_run
from tools.benchmark.cases import TINY_CASES, Case
from tools.common import fresh, process_memory


class _Step:
  num_parameters = 7

  def run(self):
    return 9.0


def test_pages_of_code_and_what_was_there_before_do_not_count(monkeypatch):
  @contextlib.contextmanager
  def servers(num_workers, pinned):
    assert (num_workers, pinned) == (2, False)
    yield [10, 11], 'target'

  monkeypatch.setattr(worker_run.servers, 'worker_servers', servers)
  session = worker_run.tf.compat.v1.Session
  monkeypatch.setattr(session, 'reset', lambda target: None)
  monkeypatch.setattr(worker_run, '_step', lambda *args, **kwargs: _Step())
  for name, values in (
    ('anonymous_bytes', [5, 6]),
    ('resident_bytes', [15, 26]),
    ('peak_bytes', [100, 200]),
    ('file_bytes', [20, 30]),
  ):
    monkeypatch.setattr(
      process_memory, name, lambda pid, values=values: values[pid - 10]
    )
  announced = []
  monkeypatch.setattr(fresh, 'announce', announced.append)
  found = worker_run.run(TINY_CASES[0], [2])
  assert announced == [[10, 11]]
  assert found.data == [100 - 20 - 5, 200 - 30 - 6]
  assert found.above_idle == [100 - 15, 200 - 26]
  assert (found.parameters, found.loss) == (7, 9.0)


def test_a_real_step_on_two_workers_is_measured_and_its_layers_are_timed():
  case = Case(
    *('', 'transformer', 2, 64, 4, 2, 2, 8),
    num_ids=512,
    dropout=0.1,
    optimizer='adam',
  )
  run = fresh.call(
    'tools.benchmark.worker_run.run',
    case,
    [2],
    timed_steps=1,
    pinned=True,
    warm_up=True,
    budget=3 * 2**30,
  )
  assert len(run.peaks) == 2
  # Weights and two slots.
  assert sum(run.above_idle) > 12 * run.parameters
  assert run.loss > 0
  assert run.step_seconds > 0
  # What the planner predicts from: seconds, beside the bytes.
  cut = fresh.call('tools.benchmark.case_cut.measured', case, 1)
  assert len(cut.layers) == case.num_layers + 2
  assert sum(layer.parameters for layer in cut.layers) == run.parameters
  assert all(0 < layer.forward < 10 for layer in cut.layers)
