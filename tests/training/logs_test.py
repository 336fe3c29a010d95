# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import pathlib
import sys

import pytest

from lingvo_gpipe.training import logs


def test_descriptor_2_goes_to_the_file_from_the_start_and_back(capfd, tmp_path):
  log = logs.RunLog()
  first = log.path
  os.write(2, b'before\n')
  print('python too', file=sys.stderr)
  log.move_to(tmp_path / 'log.txt')
  os.write(2, b'after\n')
  print('for the user', file=log.terminal)
  log.close()
  os.write(2, b'as ever\n')
  assert not os.path.exists(first)
  text = (tmp_path / 'log.txt').read_text()
  assert text.startswith('before\n')
  assert text.endswith('after\n')
  assert capfd.readouterr().err.replace('python too\n', '') == (
    'for the user\nas ever\n'
  )


def test_a_log_that_is_there_is_added_to(tmp_path):
  path = tmp_path / 'log.txt'
  path.write_text('an earlier run\n')
  log = logs.RunLog()
  os.write(2, b'this run\n')
  log.move_to(path)
  log.close()
  assert path.read_text() == 'an earlier run\nthis run\n'


def test_where_it_cannot_be_written_the_log_stays(tmp_path):
  log = logs.RunLog()
  first = log.path
  with pytest.raises(OSError):
    log.move_to(tmp_path / 'missing' / 'log.txt')
  os.write(2, b'still here\n')
  log.close()
  assert pathlib.Path(first).read_text() == 'still here\n'
  os.remove(first)


def test_closing_without_keeping_leaves_no_file_behind():
  log = logs.RunLog()
  log.close(keep=False)
  assert not os.path.exists(log.path)
