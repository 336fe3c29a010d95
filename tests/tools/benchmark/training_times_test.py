# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The table, of what trainings say; tools/training_times.py --steps 2 runs."""

import json
import pathlib
import subprocess

import pytest

from lingvo_gpipe.training import stage_times
from tools.benchmark import conditions, training_times

STAGES = stage_times.StageTimes(5, 3, 2, 20, 0.125, 12.5, 0, 0)


@pytest.fixture(autouse=True)
def machine(monkeypatch):
  """Looked at beforehand: Python asks a process of its own for some of it."""
  found = conditions.now()
  monkeypatch.setattr(conditions, 'now', lambda: found)


@pytest.fixture
def commands(monkeypatch):
  """What is started, by turns; ours writes its times to its log."""
  started = []

  def run(command, **kwargs):
    started.append(command)
    (logdir,) = (
      flag.removeprefix('--logdir=')
      for flag in command
      if flag.startswith('--logdir=')
    )
    if 'lingvo_gpipe.trainer' in command:
      pathlib.Path(logdir, 'log.txt').write_text(STAGES.to_text())
      return subprocess.CompletedProcess(command, 0, '')
    return subprocess.CompletedProcess(command, 0, STAGES.to_text())

  monkeypatch.setattr(subprocess, 'run', run)
  return started


def test_trainers_take_turns_and_a_table_shows_both(commands, capsys, tmp_path):
  file = tmp_path / 'found.json'
  args = ['--model', 'a.B', '--steps', '21', '--json', str(file)]
  assert training_times.main(args) == 0
  ours, lingvo = training_times.TRAINERS.values()
  assert [command[2] for command in commands] == [ours, lingvo, ours, lingvo]
  assert '--max_steps=21' in commands[0]
  assert any('task.train.max_steps:21' in flag for flag in commands[1])
  out = capsys.readouterr().out
  assert "| lingvo_gpipe.trainer | Lingvo's trainer |" in out
  assert '| further steps, s                 |                 2.50 |' in out
  found = json.loads(file.read_text())['trainings']
  assert [len(found[name]) for name in ('ours', 'lingvo')] == [2, 2]


def test_the_ratio_is_all_over_what_is_needed():
  training = training_times.Training(15.0, STAGES)
  assert training.ratio == 15.0 / (5 + 3 + 2 + 20 * 0.125)


def test_a_training_that_fails_is_shown(monkeypatch, capsys):
  def run(command, **kwargs):
    return subprocess.CompletedProcess(command, 2, 'what it said')

  monkeypatch.setattr(subprocess, 'run', run)
  assert training_times.main([]) == 1
  err = capsys.readouterr().err
  assert 'exit status 2' in err and 'what it said' in err


def test_an_unknown_trainer_is_said_at_once(capsys):
  with pytest.raises(SystemExit) as status:
    training_times.main(['--trainers', 'ours,torch'])
  assert status.value.code == 2
  assert 'torch is none of ours, lingvo' in capsys.readouterr().err
