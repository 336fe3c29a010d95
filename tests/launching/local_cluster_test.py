# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The launcher's rules, with processes that do nothing but live and die."""

import argparse
import contextlib
import os
import pathlib
import re
import signal
import time

import pytest

from lingvo_gpipe.launching import local_cluster


class _Roles:
  """What each process does, by name; one without a role sleeps for ever.

  A role is a function, or a list of one for each start.
  """

  def __init__(self, directory, **roles):
    self.directory = directory
    self.roles = roles

  def main(self, argv):
    name = argv[0].replace(' ', '_')
    with open(self.directory / f'{name}.starts', 'ab') as starts:
      starts.write(b'.')
      count = starts.tell()
    (self.directory / f'{name}.flags').write_text('\n'.join(argv))
    os.write(1, f'says {name}\n'.encode())  # Past what pytest captures.
    role = self.roles.get(name, _sleep)
    return role[count - 1]() if isinstance(role, list) else role()

  def starts(self, *names):
    paths = [self.directory / f'{name}.starts' for name in names]
    return [path.stat().st_size if path.exists() else 0 for path in paths]


def _after(seconds, status=0, send=0):
  """A role that ends, after it has sent itself a signal."""

  def role():
    time.sleep(seconds)
    os.kill(os.getpid(), send)
    return status

  return role


_sleep = _after(60)
_kill_self = _after(0.3, send=signal.SIGKILL)


def _run(roles, **settings):
  said = []
  all_settings = argparse.Namespace(
    workers=2,
    controller=False,
    evaluate=[],
    evaluation_devices=1,
    max_restarts=2,
    hang_seconds=30.0,
  )
  vars(all_settings).update(settings)
  cluster = local_cluster.LocalCluster(
    all_settings,
    ['--model=a.B'],
    str(roles.directory),
    roles.main,
    said.append,
  )
  return cluster.run(), '\n'.join(said)


def _children():
  """This process's; other tests may have left some."""
  found = set()
  for path in pathlib.Path('/proc').glob('[0-9]*/stat'):
    with contextlib.suppress(OSError):  # It has just ended.
      parent = path.read_text().rpartition(')')[2].split()[1]
      if int(parent) == os.getpid():
        found.add(path.parent.name)
  return found


def test_all_agree_on_a_cluster_and_the_trainer_knows_the_workers(tmp_path):
  def worker():
    (tmp_path / 'pid').write_text(str(os.getpid()))
    return _sleep()

  def trainer():
    (tmp_path / 'pids').write_text(os.environ[local_cluster.WORKER_PIDS])
    return _after(0.5)()

  roles = _Roles(
    tmp_path, trainer=trainer, worker_2=worker, controller=_after(0.8)
  )
  before = _children()
  status, said = _run(roles, controller=True, workers=3)
  assert status == 0
  assert 'worker 0' in said and 'trainer' in said  # Their memory.
  assert _children() <= before  # It ends with the trainer.
  pids = (tmp_path / 'pids').read_text().split()
  assert pids[2:] == [(tmp_path / 'pid').read_text()]
  flags = {path.stem: path.read_text() for path in tmp_path.glob('*.flags')}
  workers = {f'worker_{k}' for k in range(3)}
  assert set(flags) == {*workers, 'trainer', 'controller'}
  (spec,) = {
    re.search(r'--model=a.B\n--cluster_spec=(.*)', argv)[1]
    for argv in flags.values()
  }
  addresses = re.findall(r'127\.0\.0\.1:\d+', spec)
  assert len(addresses) == len(set(addresses)) == 5
  assert '--task=2' in flags['worker_2']
  assert '--job=trainer_client' in flags['trainer']
  assert 'says worker_1' in (tmp_path / 'log_worker_1.txt').read_text()


@pytest.mark.parametrize(
  ('role', 'hang_seconds', 'message'),
  [
    (_kill_self, 30.0, 'worker 1 was killed by SIGKILL; all start again'),
    (_after(0.3, 7), 30.0, 'worker 1 ended with status 7; all start again'),
    (_after(0.3, send=signal.SIGSTOP), 2.5, 'worker 1 hangs'),
  ],
)
def test_a_worker_that_is_lost_is_named_and_all_start_again(
  tmp_path, role, hang_seconds, message
):
  roles = _Roles(
    tmp_path, worker_1=[role, _sleep], trainer=[_sleep, _after(0.3)]
  )
  status, said = _run(roles, hang_seconds=hang_seconds)
  assert status == 0
  assert message in said
  assert roles.starts('worker_0', 'worker_1', 'trainer') == [2, 2, 2]


def test_a_trainer_that_lost_a_worker_starts_again(tmp_path):
  roles = _Roles(tmp_path, trainer=[_after(0.2, status=3), _after(0.2)])
  assert _run(roles)[0] == 0
  assert roles.starts('worker_0', 'trainer') == [2, 2]


def test_a_mistake_that_the_trainer_finds_is_the_end(tmp_path):
  roles = _Roles(tmp_path, trainer=_after(0.2, status=2))
  assert _run(roles)[0] == 2
  assert roles.starts('worker_0', 'trainer') == [1, 1]


@pytest.mark.parametrize('by_trainer', [False, True])
def test_so_is_one_that_a_worker_finds_which_is_said_once(tmp_path, by_trainer):
  def refuse():
    os.write(2, b'loading\nworker: --flag=x: no.\n')
    return 2

  trainer = _after(0.5, status=2) if by_trainer else _sleep
  roles = _Roles(tmp_path, worker_1=refuse, trainer=trainer)
  status, said = _run(roles)
  assert status == 2
  line = 'worker 1 ended with status 2: worker: --flag=x: no.'
  assert (line in said) != by_trainer  # The trainer is on the terminal.
  assert roles.starts('worker_0', 'trainer') == [1, 1]


def test_ctrl_c_lets_the_trainer_end_and_ends_all(tmp_path):
  before = _children()

  def trainer():
    time.sleep(0.3)
    os.kill(os.getppid(), signal.SIGINT)
    try:
      return _sleep()
    except KeyboardInterrupt:
      (tmp_path / 'interrupted').touch()
      return 130

  status, said = _run(_Roles(tmp_path, trainer=trainer))
  assert status == 130
  assert 'Interrupted: ending all processes' in said
  assert (tmp_path / 'interrupted').exists()
  assert _children() <= before


def test_gives_up_after_so_many_restarts(tmp_path):
  roles = _Roles(tmp_path, worker_0=_kill_self)
  status, said = _run(roles, max_restarts=1)
  assert status == 1
  assert roles.starts('worker_0') == [2]
  assert 'given up after 1 restart(s)' in said


def test_evaluation_starts_again_alone_unless_it_fails_by_itself(tmp_path):
  roles = _Roles(
    tmp_path,
    trainer=_after(2),
    evaler_Test=[_kill_self, _after(0)],
    evaler_Dev=_after(0.1, 2),
  )
  status, said = _run(roles, evaluate=['evaler_Test', 'evaler_Dev'])
  assert status == 0
  assert 'evaler_Test was killed by SIGKILL; it starts again' in said
  assert 'evaler_Dev ended with status 2; continuing without it' in said
  assert roles.starts('evaler_Test', 'evaler_Dev', 'trainer') == [2, 1, 1]
