# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import threading
import time
from concurrent import futures

import pytest

from lingvo_gpipe.inputs import cached_file


def test_a_file_is_made_once(tmp_path):
  path = tmp_path / 'new' / 'file'
  assert cached_file.read_or_make(str(path), lambda: b'made') == b'made'
  assert path.read_bytes() == b'made'
  assert cached_file.read_or_make(str(path), lambda: b'other') == b'made'


def test_nothing_stays_of_a_file_that_could_not_be_made(tmp_path):
  def fail():
    raise RuntimeError('no')

  path = str(tmp_path / 'file')
  with pytest.raises(RuntimeError, match='no'):
    cached_file.read_or_make(path, fail)
  assert [x.name for x in tmp_path.iterdir()] == ['file.lock']
  assert cached_file.read_or_make(path, lambda: b'made') == b'made'


def test_a_directory_that_cannot_be_written_is_named():
  with pytest.raises(ValueError, match=r'/dev/null/x/file .*cache_dir'):
    cached_file.read_or_make('/dev/null/x/file', lambda: b'')


def test_the_users_directory_is_the_systems(monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', '/cache')
  assert cached_file.default_directory() == '/cache/lingvo_gpipe'
  monkeypatch.delenv('XDG_CACHE_HOME')
  monkeypatch.setenv('HOME', '/home/me')
  assert cached_file.default_directory() == '/home/me/.cache/lingvo_gpipe'


def test_of_several_that_want_a_file_one_makes_it(tmp_path):
  """Locks are by open file, so threads wait as processes do."""
  barrier = threading.Barrier(4)
  made = []

  def make():
    made.append(1)
    time.sleep(0.2)
    return b'contents' * 1000

  def read(_):
    barrier.wait()
    return cached_file.read_or_make(str(tmp_path / 'file'), make)

  with futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(read, range(4))) == [b'contents' * 1000] * 4
  assert made == [1]
