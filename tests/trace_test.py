# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import pathlib

import pytest

from lingvo_gpipe import launch_local, trace, trainer


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    ([], 'required: --model'),
    (['--model=x', '--steps=0'], '--steps: 0 must be a whole number, 1 or'),
    (['--model=x', '--schedule=zigzag'], "There is no schedule 'zigzag'"),
    (['--model=x', '--step=3'], "Unknown command line flag 'step'"),
    (['--model=x', '--', '--max_steps=3'], '--max_steps is set here'),
    (['--model=x', '--', 'steps'], "'steps': not a flag"),
  ],
)
def test_a_mistake_is_told_in_one_line(argv, message, tmp_path, refused):
  error = refused(trace.main, [f'--out={tmp_path}/out', *argv], 'trace')
  assert error.startswith('trace: ')
  assert message in error
  assert error.count('\n') == 1


def test_the_trainer_is_told_what_to_trace(tmp_path, monkeypatch):
  seen = {}

  def train(argv, name):
    [logdir] = (flag[9:] for flag in argv if flag.startswith('--logdir='))
    seen.update(name=name, logdir=logdir, flags=argv)
    os.makedirs(os.path.join(logdir, 'train'))
    pathlib.Path(tmp_path, 'out', 'numbers.json').touch()
    pathlib.Path(logdir, 'train', 'events.out.tfevents.1').touch()
    return 0

  monkeypatch.setattr(trainer, 'main', train)
  given = ['--model=a.B', '--micro_batches=8', '--', '--noadd_summary']
  own = ['--steps=2', '--warmup_steps=5', '--tensorboard']
  out = tmp_path / 'out'
  assert trace.main([*own, f'--out={out}', *given], 'trace') == 0
  assert {
    '--model=a.B',
    '--max_steps=7',
    '--trace_step=6',
    '--trace_steps=2',
    f'--trace_dir={out}',
    '--micro_batches=8',
    '--noadd_summary',
  } < set(seen['flags'])
  assert not os.path.exists(seen['logdir'])
  assert os.listdir(out / 'tensorboard') == ['events.out.tfevents.1']


def test_an_old_trace_is_no_success(tmp_path, monkeypatch, capfd):
  (tmp_path / 'numbers.json').write_text('{}')
  monkeypatch.setattr(trainer, 'main', lambda *args: 0)
  argv = ['--model=some.Model', f'--out={tmp_path}']
  assert trace.main(argv, 'trace') == 1
  assert 'nothing was traced; the log is in' in capfd.readouterr().err


def test_workers_are_launched_as_asked(tmp_path, monkeypatch):
  seen = []

  def launch(argv, name):
    seen.append((argv, name))
    return 2

  monkeypatch.setattr(launch_local, 'main', launch)
  argv = ['--model=some.Model', '--workers=3', '--open_ports']
  assert trace.main([*argv, f'--out={tmp_path}'], 'trace') == 2
  [(given, name)] = seen
  assert name == 'trace'
  assert {*argv, '--devices_per_worker=1'} < set(given)
