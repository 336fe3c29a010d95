# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from lingvo_gpipe.training import checkpoints, runners, user_error


class _Directory:
  """A directory with the files that tell which checkpoints there are."""

  def __init__(self, path):
    self._path = path

  def write(self, *steps):
    """The checkpoints that count, the newest last; writes all of them anew."""
    names = [f'ckpt-{step:08d}' for step in steps]
    for name in names:
      index = self._path / f'{name}.index'
      before = index.stat().st_mtime if index.exists() else 0
      index.write_text('')
      os.utime(index, (before + 1, before + 1))
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    (self._path / 'checkpoint').write_text('\n'.join(lines))

  def follower(self, done=(), every=False):
    return runners.CheckpointFollower(
      str(self._path), [f'elsewhere/ckpt-{s:08d}' for s in done], every
    )


@pytest.fixture
def directory(tmp_path):
  return _Directory(tmp_path)


def _steps(follower):
  """The steps of all checkpoints that are to be run on now."""
  steps = []
  while (path := follower.next()) is not None:
    steps.append(checkpoints.step_of(path))
    follower.done(path)
  return steps


def test_there_is_nothing_to_do_before_the_first_checkpoint(directory):
  follower = directory.follower()
  assert follower.next() is None
  assert follower.newest_step == 0


def test_the_newest_or_every_checkpoint_is_taken_once(directory):
  directory.write(10, 20, 30)
  newest, every = directory.follower(), directory.follower(every=True)
  assert _steps(newest) == [30]
  assert _steps(every) == [10, 20, 30]
  directory.write(20, 30, 40, 50)
  assert _steps(newest) == [50]
  assert _steps(every) == [40, 50]
  assert newest.newest_step == 50


def test_what_was_done_before_is_left_out_wherever_the_directory_was(directory):
  directory.write(10, 20, 30)
  assert _steps(directory.follower(done=[10, 30])) == []
  assert _steps(directory.follower(done=[10, 30], every=True)) == [20]


@pytest.mark.parametrize(
  ('every', 'otherwise', 'others'),
  [(False, 'trying an older one', [20]), (True, 'it is left out', [20, 30])],
)
def test_one_that_is_damaged_is_passed_over_with_a_warning(
  directory, warnings, every, otherwise, others
):
  directory.write(10, 20, 30)
  follower = directory.follower(every=every)
  follower.leave_out(follower.next(), 'it is damaged (checksum)')
  assert warnings.getvalue() == (
    f'Warning: it is damaged (checksum); {otherwise}.\n'
  )
  assert _steps(follower) == others
  # The training may be over all the same.
  assert follower.newest_step == 30


def test_a_damaged_one_is_tried_again_once_it_is_replaced(directory):
  directory.write(10, 20)
  follower = directory.follower(done=[10])
  follower.leave_out(follower.next(), 'damaged')
  assert follower.next() is None
  directory.write(10, 20)
  assert _steps(follower) == [20]


def test_one_that_the_training_removed_meanwhile_is_no_news(
  directory, warnings
):
  directory.write(10)
  follower = directory.follower()
  path = follower.next()
  directory.write(20)
  follower.leave_out(path, 'damaged')
  assert warnings.getvalue() == ''
  assert _steps(follower) == [20]


def test_that_all_are_damaged_is_an_error(directory):
  directory.write(10, 20)
  follower = directory.follower()
  for _ in range(2):
    follower.leave_out(follower.next(), 'damaged')
  with pytest.raises(user_error.UserError, match='Every checkpoint in '):
    follower.next()
