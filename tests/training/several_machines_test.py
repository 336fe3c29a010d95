# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Two machines with addresses of their own, as network namespaces of this one.

lingvo_gpipe_0 (10.203.0.1)  --- cable ---  lingvo_gpipe_1 (10.203.0.2)
trainer, worker 0                           worker 1
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

import child_process
import pytest

MACHINES = [f'lingvo_gpipe_{k}_{os.getpid()}' for k in range(2)]
ADDRESSES = ['10.203.0.1', '10.203.0.2']
SPEC = (
  f'worker={ADDRESSES[0]}:5000,{ADDRESSES[1]}:5000'
  f'@trainer_client={ADDRESSES[0]}:5001'
)


def _ip(*args):
  subprocess.run(['ip', *args], check=True, capture_output=True, text=True)


@pytest.fixture
def machines():
  """Two namespaces with a cable between them; skips where they can't be."""
  if not shutil.which('ip'):
    pytest.skip('there is no ip (iproute2)')
  try:
    for name in MACHINES:
      _ip('netns', 'add', name)
    _ip(
      *('-n', MACHINES[0], 'link', 'add', 'cable', 'type', 'veth'),
      *('peer', 'name', 'cable', 'netns', MACHINES[1]),
    )
    for name, address in zip(MACHINES, ADDRESSES, strict=True):
      _ip('-n', name, 'address', 'add', f'{address}/24', 'dev', 'cable')
      for device in ('cable', 'lo'):
        _ip('-n', name, 'link', 'set', device, 'up')
    yield MACHINES
  except subprocess.CalledProcessError as error:
    pytest.skip(f'no network namespaces: {error.stderr}')
  finally:
    for name in MACHINES:
      subprocess.run(['ip', 'netns', 'delete', name], capture_output=True)


def _start(machine, logdir, *args):
  return child_process.start(
    'trainer',
    '--model=stand_in_pipeline.Small',
    f'--logdir={logdir}',
    f'--cluster_spec={SPEC}',
    '--worker_split_size=2',
    *args,
    prefix=('ip', 'netns', 'exec', machine),
  )


@contextlib.contextmanager
def _training(machines, logdir, max_steps):
  workers = [
    _start(machine, logdir, '--job=worker', f'--task={k}')
    for k, machine in enumerate(machines)
  ]
  trainer = _start(
    machines[0],
    logdir,
    '--job=trainer_client',
    '--checkpoint_in_trainer_cpu',
    f'--max_steps={max_steps}',
  )
  try:
    yield trainer
  finally:
    for process in [trainer, *workers]:
      process.send_signal(signal.SIGKILL)
      process.communicate()


def _last_checkpoint(logdir):
  indices = (logdir / 'train').glob('ckpt-*.index')
  return max((int(i.stem.partition('-')[2]) for i in indices), default=0)


def test_two_machines_train_notice_a_cut_cable_and_go_on(machines, tmp_path):
  with _training(machines, tmp_path, max_steps=1000000) as trainer:
    while not _last_checkpoint(tmp_path):
      assert trainer.poll() is None, trainer.communicate()[0]
      time.sleep(0.1)
    _ip('-n', machines[0], 'link', 'set', 'cable', 'down')
    cut = time.monotonic()
    output = trainer.communicate(timeout=120)[0]
    noticed = time.monotonic() - cut
  assert trainer.returncode == 3, output
  # Both hold weights: 64 * 32 + 32 and 32 * 10 + 10 floats.
  assert '/job:worker/task:0 0.008 (' in output
  assert '/job:worker/task:1 0.001 (' in output
  assert f'trainer: worker 1 ({ADDRESSES[1]}:5000) ' in output
  assert 'start the workers and the trainer again' in output
  assert noticed < 60, noticed

  _ip('-n', machines[0], 'link', 'set', 'cable', 'up')
  before = _last_checkpoint(tmp_path)
  with _training(machines, tmp_path, max_steps=before + 100) as trainer:
    output = trainer.communicate(timeout=120)[0]
  assert trainer.returncode == 0, output
  first_step = int(re.search(r'^step (\d+)/', output, re.MULTILINE)[1])
  assert first_step > before, output
  assert _last_checkpoint(tmp_path) == before + 100
