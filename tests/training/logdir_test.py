# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

from lingvo_gpipe.training import logdir, user_error

_HOLD = """
import fcntl, sys
lock = open(sys.argv[1], 'a+')
fcntl.flock(lock, fcntl.LOCK_EX)
lock.truncate(0); lock.write('4711'); lock.flush()
print('locked', flush=True)
sys.stdin.read()
"""


def test_a_directory_is_made_and_its_path_is_absolute(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  assert logdir.prepare('a/b') == str(tmp_path / 'a' / 'b')
  assert (tmp_path / 'a' / 'b').is_dir()


def test_two_processes_cannot_train_in_it_until_one_has_ended(tmp_path):
  with logdir.training(str(tmp_path), 'a.Model'):
    pass
  lock = tmp_path / 'train' / '.lock'
  with subprocess.Popen(
    [sys.executable, '-c', _HOLD, str(lock)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
  ) as other:
    other.stdout.readline()
    with (
      pytest.raises(
        user_error.UserError, match='process 4711 is training in it'
      ),
      logdir.training(str(tmp_path), 'a.Model'),
    ):
      pass
    other.kill()
  # Without a checkpoint another model may have it.
  with logdir.training(str(tmp_path), 'b.Model'):
    pass
  assert (tmp_path / 'train' / 'model.txt').read_text() == 'b.Model\n'
