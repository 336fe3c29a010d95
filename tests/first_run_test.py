# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import re

import child_process
import local_training
import pytest

from lingvo_gpipe import first_run


def test_trains_evaluates_and_reports(tmp_path):
  result = child_process.run(
    'first_run',
    '--model=stand_in_pipeline.TwoDevices',
    f'--logdir={tmp_path}',
    '--max_steps=60',
    '--micro_batches=8',
    '--schedule=1f1b',
  )
  assert result.returncode == 0, result.stderr
  # The terminal has the report, the file has the rest.
  assert result.stderr == ''
  out = result.stdout
  assert 'step 60/60  loss ' in out
  assert 'of 364 held-out examples' in out
  assert 'K = 2 devices, M = 8 micro-batches, schedule 1f1b' in out
  assert ' ms, the median' in out
  assert re.search(r'Efficiency  (\d|not measured)', out)
  assert '--max_steps=120\n' in out
  assert f'{tmp_path}/train/ckpt-00000060' in out
  assert 'INFO' not in out
  log = (tmp_path / 'log.txt').read_text()
  assert 'Training finished.' in log
  assert (tmp_path / 'train' / 'ckpt-00000060.index').exists()


@pytest.mark.parametrize(
  ('flag', 'message'),
  [
    ('--model=stand_in_pipeline.TwoDevises', 'Nearest: stand_in_pipeline.Two'),
    ('--devices=0', 'flag --devices=0'),
    ('--schedule=zigzag', 'gpipe'),
  ],
)
def test_a_mistake_is_one_line_and_status_2(flag, message, monkeypatch, capfd):
  # A wrong model is found once the module of the right one is known.
  model = (
    ['--model=stand_in_pipeline.TwoDevices'] if 'model' not in flag else []
  )
  argv = ['first_run', *model, flag]
  _, err = local_training.refused(first_run.main, argv, capfd)
  assert message in err


def test_steps_are_traced_if_the_model_has_a_pipeline(tmp_path, capfd):
  pytest.importorskip('matplotlib')
  model = '--model=stand_in_pipeline.TwoDevices'
  argv = ['first_run', model, f'--logdir={tmp_path}', '--trace_step=3']
  _, err = local_training.refused(first_run.main, argv, capfd)
  assert 'it has no PipeliningLayer' in err
