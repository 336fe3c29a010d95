# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import pathlib

import pytest

from lingvo_gpipe.training import logs


def test_descriptor_2_goes_to_a_file_that_is_there_and_back(capfd, tmp_path):
  path = tmp_path / 'log.txt'
  path.write_text('an earlier run\n')
  log = logs.RunLog()
  first = log.path
  os.write(2, b'before\n')
  log.move_to(path)
  os.write(2, b'after\n')
  print('for the user', file=log.terminal)
  log.close()
  os.write(2, b'as ever\n')
  assert not os.path.exists(first)
  assert path.read_text() == 'an earlier run\nbefore\nafter\n'
  assert capfd.readouterr().err == 'for the user\nas ever\n'


@pytest.mark.parametrize('keep', [True, False])
def test_where_it_cannot_be_written_the_log_stays(tmp_path, keep):
  log = logs.RunLog()
  first = pathlib.Path(log.path)
  with pytest.raises(OSError):
    log.move_to(tmp_path / 'missing' / 'log.txt')
  os.write(2, b'still here\n')
  assert first.read_text() == 'still here\n'
  log.close(keep)
  assert first.exists() == keep
  first.unlink(missing_ok=True)
