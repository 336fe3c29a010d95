# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from lingvo_gpipe.training import checkpoints, runners, user_error


@pytest.fixture
def write(tmp_path):
  """Makes steps those of the checkpoints that count; writes them anew."""

  def write(*steps):
    names = [f'ckpt-{step:08d}' for step in steps]
    for name in names:
      index = tmp_path / f'{name}.index'
      before = index.stat().st_mtime if index.exists() else 0
      index.write_text('')
      os.utime(index, (before + 1, before + 1))
    lines = [f'model_checkpoint_path: "{names[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in names]
    (tmp_path / 'checkpoint').write_text('\n'.join(lines))

  return write


@pytest.fixture
def follower(tmp_path):
  def make(done=(), every=False):
    processed = [f'elsewhere/ckpt-{step:08d}' for step in done]
    return runners.CheckpointFollower(str(tmp_path), processed, every)

  return make


def _steps(follower):
  steps = []
  while (path := follower.next()) is not None:
    steps.append(checkpoints.step_of(path))
  return steps


def test_the_newest_or_every_new_checkpoint_is_taken_once(write, follower):
  newest, every = follower(), follower(every=True)
  assert (newest.next(), newest.newest_step) == (None, 0)
  write(10, 20, 30)
  assert (_steps(newest), _steps(every)) == ([30], [10, 20, 30])
  write(20, 30, 40, 50)
  assert (_steps(newest), _steps(every)) == ([50], [40, 50])
  assert newest.newest_step == 50
  # What was done before is left out, wherever the directory was.
  write(10, 20, 30)
  assert _steps(follower(done=[10, 30])) == []
  assert _steps(follower(done=[10, 30], every=True)) == [20]


@pytest.mark.parametrize(
  ('every', 'otherwise', 'others', 'after'),
  [
    (False, 'trying an older one', [20], [30]),
    (True, 'it is left out', [20, 30], [10]),
  ],
)
def test_a_damaged_one_is_passed_over_with_a_warning_until_it_is_replaced(
  write, follower, warnings, every, otherwise, others, after
):
  write(10, 20, 30)
  of_job = follower(every=every)
  of_job.leave_out(of_job.next(), 'it is damaged (checksum)')
  assert warnings.getvalue() == (
    f'Warning: it is damaged (checksum); {otherwise}.\n'
  )
  assert _steps(of_job) == others
  # The training may be over all the same.
  assert of_job.newest_step == 30
  write(10, 20, 30)
  assert _steps(of_job) == after


def test_one_that_is_removed_meanwhile_is_no_news(write, follower, warnings):
  write(10)
  of_job = follower()
  path = of_job.next()
  write(20)
  of_job.leave_out(path, 'damaged')
  assert warnings.getvalue() == ''
  assert _steps(of_job) == [20]


def test_that_all_are_damaged_is_an_error(write, follower):
  write(10, 20)
  of_job = follower()
  for _ in range(2):
    of_job.leave_out(of_job.next(), 'damaged')
  with pytest.raises(user_error.UserError, match='Every checkpoint in '):
    of_job.next()
