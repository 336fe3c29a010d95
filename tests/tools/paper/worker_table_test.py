# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The table, of what a trainer and a launcher print; they have tests of theirs.

The commands themselves take a minute: tools/worker_table.py --steps 3
--model tools.paper.worker_model.Tiny.
"""

import dataclasses

import pytest

from lingvo_gpipe.training import stage_times
from tools.common import fresh
from tools.paper import worker_table

MIB = 2**20
STAGES = stage_times.StageTimes(5, 3, 2, 2, 0.125, 12, 400 * MIB, 912 * MIB)
CUT = """
| cell |              device |    layers | cost (flops) | parameters |
| ---- | ------------------: | --------: | -----------: | ---------: |
| 0    | task:0/device:CPU:0 |      a, b |        25.0% |    262,144 | 1 MiB |
| 1    | task:0/device:CPU:1 |         c |        25.0% |    524,288 | 2 MiB |
| 2    | task:1/device:CPU:0 | d .. e (7)|        25.0% |    786,432 | 3 MiB |
| 3    | task:1/device:CPU:1 |         f |        25.0% |  1,048,576 | 4 MiB |
"""
WEIGHTS = (
  'Weights in MiB (with optimizer slots and counters): /job:worker/task:0 '
  '3.000 (9.000), /job:worker/task:1 {} (21.000)\n'
)
PEAKS = (
  'launch_local: Peak memory in MiB, without what imports take: trainer 167, '
  'worker 1 123, worker 0 45.\n'
)


@pytest.fixture
def run(monkeypatch, tmp_path):
  def run(num_workers=2, output=None, held='7.000'):
    started = []

    def run_module(module, *flags):
      started.append(flags)
      logdir = tmp_path / f'workers_{num_workers}'
      logdir.mkdir()
      for name in ('log.txt', 'log_trainer_client_0.txt'):
        (logdir / name).write_text(STAGES.to_text())
      return output or CUT + WEIGHTS.format(held) + PEAKS, 1.0

    monkeypatch.setattr(fresh, 'run_module', run_module)
    monkeypatch.setattr(
      worker_table, 'losses', lambda path: {1: 2.5, 2: 1.25, 3: 0.5}
    )
    found = worker_table.run(num_workers, 'a.Model', 3, tmp_path)
    return found, started[0]

  return run


def test_workers_are_told_apart(run):
  found, command = run()
  assert found.cells == (1 * MIB, 2 * MIB, 3 * MIB, 4 * MIB)
  assert found.held == ('3.000', '7.000')
  assert found.peaks == (45.0, 123.0)
  assert found.stages == STAGES
  assert '--workers=2' in command and '--devices_per_worker=2' in command


def test_one_process_has_all_cells(run):
  found, command = run(0, CUT)
  assert (found.held, found.peaks) == (('',), (512.0,))
  assert found.share(0) == '10.000'
  assert '--worker_split_size=4' in command


def test_a_run_that_says_nothing_is_an_error_with_what_it_said(run):
  with pytest.raises(fresh.ProcessError, match=r'(?s)say what.*what I said'):
    run(output='what I said')


def test_nothing_is_wrong_with_runs_that_agree(run):
  found, _ = run()
  assert worker_table.problems([found, found], 3) == []
  text = worker_table.as_text([found])
  assert '| 2 workers         |          0.125 |' in text
  assert '| 2 workers: 1 |  2, 3 |        7.000 |' in text


def test_other_losses_and_other_weights_are_named(run):
  found, _ = run(held='7.001')
  other = dataclasses.replace(found, losses={1: 2.5, 2: 1.26, 3: 0.5})
  assert worker_table.problems([found, other], 3) == [
    '2 workers: worker 1 holds 7.001 MiB of weights, its cells have 7.000',
    '2 workers: other losses at steps [2]',
    '2 workers: worker 1 holds 7.001 MiB of weights, its cells have 7.000',
  ]
  assert 'steps [1, 2, 3] only' in worker_table.problems([found], 4)[0]
