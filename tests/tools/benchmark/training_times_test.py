# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The table, of what trainings say; tools/training_times.py --steps 2 runs."""

import json
import pathlib

import pytest

from lingvo_gpipe.training import stage_times
from tools.benchmark import training_times
from tools.common import fresh

STAGES = stage_times.StageTimes(5, 3, 2, 20, 0.125, 12.5, 0, 0)


@pytest.fixture
def commands(monkeypatch):
  """What is started, by turns; ours writes its times to its log."""
  started = []

  def run(module, *flags):
    started.append([module, *flags])
    [logdir] = [f.partition('=')[2] for f in flags if f.startswith('--logdir')]
    if module != 'lingvo_gpipe.trainer':
      return STAGES.to_text(), 12.5
    pathlib.Path(logdir, 'log.txt').write_text(STAGES.to_text())
    return '', 12.5

  monkeypatch.setattr(fresh, 'run_module', run)
  return started


def test_trainers_take_turns_and_a_table_shows_both(commands, capsys, tmp_path):
  file = tmp_path / 'found.json'
  args = ['--model', 'a.B', '--steps', '21', '--json', str(file)]
  assert training_times.main(args) == 0
  ours, lingvo = training_times.TRAINERS.values()
  assert [command[0] for command in commands] == [ours, lingvo, ours, lingvo]
  assert '--max_steps=21' in commands[0]
  assert any('task.train.max_steps:21' in flag for flag in commands[1])
  out = capsys.readouterr().out
  assert "| lingvo_gpipe.trainer | Lingvo's trainer |" in out
  assert '| further steps, s                 |                 2.50 |' in out
  # All of it, over 5 + 3 + 2 + 20 * 0.125.
  assert '| ratio to imports + graph + steps |                 1.00 |' in out
  found = json.loads(file.read_text())['trainings']
  assert [len(found[name]) for name in ('ours', 'lingvo')] == [2, 2]


def test_a_training_that_says_no_times_is_shown(monkeypatch, capsys):
  monkeypatch.setattr(fresh, 'run_module', lambda *flags: ('what it said', 1.0))
  assert training_times.main([]) == 1
  err = capsys.readouterr().err
  assert 'no times in the log' in err and 'what it said' in err
