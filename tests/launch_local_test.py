# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import os
import pathlib
import re
import signal
import time

import child_process
import local_training
import numpy as np
import pytest
import tensorflow as tf

from lingvo_gpipe import launch_local
from lingvo_gpipe.launching import private_network

STEPS = 30


def _open_ports():
  """The flag for systems that allow no private network."""
  pid = os.fork()
  if not pid:
    try:
      private_network.enter()
    except OSError:
      os._exit(1)
    os._exit(0)
  allowed = os.waitpid(pid, 0)[1] == 0
  return [] if allowed else ['--open_ports']


def _launch(logdir, *args, workers=2, evaluate=()):
  return child_process.start(
    'launch_local',
    f'--workers={workers}',
    '--no-controller',
    *(f'--evaluate={job}' for job in evaluate),
    *_open_ports(),
    '--',
    '--model=stand_in_pipeline.Small',
    f'--logdir={logdir}',
    *args,
  )


def _finish(process):
  output = process.communicate(timeout=300)[0]
  assert process.returncode == 0, output
  return output


def _losses(logdir):
  """{step: loss}; of a step that was done twice, the last one."""
  losses = {}
  for path in sorted((logdir / 'train').glob('events*')):
    # Not tf.data's iterator: a test before this one may have left eager mode.
    for event in tf.compat.v1.train.summary_iterator(str(path)):
      for value in event.summary.value:
        if value.tag == 'loss':
          losses[event.step] = value.simple_value
  return losses


def _worker(logdir, task):
  """The process id of a worker: it has the worker's log open."""
  log = str(logdir / f'log_worker_{task}.txt')
  for path in pathlib.Path('/proc').glob('[0-9]*/fd/1'):
    try:
      if os.readlink(path) == log:
        return int(path.parts[2])
    except OSError:
      continue
  raise AssertionError(f"{log} is nobody's output")


def test_workers_train_as_one_process_does_and_survive_a_kill(tmp_path):
  _finish(
    child_process.train('Small', tmp_path / 'here', f'--max_steps={STEPS}')
  )
  workers = tmp_path / 'workers'
  process = _launch(workers, f'--max_steps={STEPS}')
  # Somewhere in the run, behind the first checkpoint.
  while not list((workers / 'train').glob('ckpt-*.index')):
    assert process.poll() is None, process.communicate()[0]
    time.sleep(0.05)
  os.kill(_worker(workers, 1), signal.SIGKILL)
  output = _finish(process)
  assert 'worker 1 was killed by SIGKILL; all start again' in output
  # What each worker holds: 64 * 32 + 32 and 32 * 10 + 10 floats.
  assert re.search(
    r'/job:worker/task:0 0\.008 \(.*/job:worker/task:1 0\.001 \(', output
  )
  here, there = (
    local_training.checkpoint(tmp_path / d, STEPS) for d in ('here', 'workers')
  )
  assert set(here) == set(there)
  for name, value in here.items():
    np.testing.assert_array_equal(there[name], value, err_msg=name)
  assert _losses(workers)[STEPS] == _losses(tmp_path / 'here')[STEPS]


def test_two_pipelines_have_the_gradients_of_one_on_the_whole_batch(tmp_path):
  batch = '--model_params_override=input.batch_size:64'
  _finish(
    child_process.train('Small', tmp_path / 'one', '--max_steps=1', batch)
  )
  # Two pipelines of two cells, each with half of the 64 examples.
  output = _finish(
    _launch(
      tmp_path / 'two',
      '--worker_split_size=2',
      '--max_steps=1',
      workers=4,
      evaluate=['decoder_Test'],
    )
  )
  # Beside the training, in a process and on a device of its own.
  assert 'decoder_Test, step 1, 364 examples: accuracy 0.' in output
  one, two = (
    local_training.checkpoint(tmp_path / d, 1) for d in ('one', 'two')
  )
  # After one step, Adam's first moment is a tenth of the gradient.
  moments = [name for name in one if name.endswith('/Adam')]
  assert len(moments) == 4
  for name in moments:
    assert np.abs(one[name]).max() > 0
    # float32 sums in another order.
    np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    (['--', '--logdir=/tmp/x'], '--model: give one'),
    (['--', '--model=a.B', '--logdir=/dev/null/x'], '--logdir=/dev/null/x'),
    (['--', '--model=a.B', '--logdir=/tmp/x', '--task=1'], '--task is set'),
    (['--workers=0', '--'], '0 must be a whole number, 1 or more'),
    # Without --.
    (['--workers=2', '--model', 'a.B'], '--logdir: give one'),
    (['--worker=2', '--model=a.B'], "flag 'worker'"),
    (['--worker=2', '--model=a.B'], '(this command has --workers)'),
  ],
)
def test_a_mistake_is_said_at_once(args, message, capfd):
  with pytest.raises(SystemExit) as ended:
    launch_local.main(args)
  assert ended.value.code == 2
  out, err = capfd.readouterr()
  assert message in err
  assert (out + err).count('\n') == 1


def test_the_log_directory_is_given_here_and_not_in_a_file(tmp_path, capfd):
  file = tmp_path / 'flags.txt'
  file.write_text('--model=a.B\n--logdir=/tmp/x\n')
  with pytest.raises(SystemExit):
    launch_local.main(['--', f'--flagfile={file}'])
  assert '--logdir: give it' in capfd.readouterr().err


def test_a_model_that_there_is_not_is_said_once(tmp_path):
  process = child_process.start(
    'launch_local',
    *_open_ports(),
    '--model=stand_in_pipeline.Smalll',
    f'--logdir={tmp_path}',
  )
  output = process.communicate(timeout=120)[0]
  assert process.returncode == 2
  assert output.count('no such model') == 1
