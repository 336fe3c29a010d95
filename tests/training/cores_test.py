# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import threading

import pytest

from lingvo_gpipe.training import cores

needs_two_cores = pytest.mark.skipif(
  not cores.OneCore().available, reason='there is only one core'
)


class _Waiter(threading.Thread):
  """A thread that waits until it is told to end."""

  def __init__(self):
    super().__init__(daemon=True)
    self._end = threading.Event()
    self.start()

  def run(self):
    self._end.wait(60)

  def cores(self):
    return os.sched_getaffinity(self.native_id)

  def end(self):
    self._end.set()
    self.join()


@needs_two_cores
def test_all_threads_share_one_core_and_get_theirs_back():
  before = os.sched_getaffinity(0)
  older = _Waiter()
  core = cores.OneCore()
  core.release()  # Without a pin it changes nothing.
  assert os.sched_getaffinity(0) == before
  try:
    core.pin()
    younger = _Waiter()
    assert core.pinned
    for thread in (older, younger):
      assert thread.cores() == {min(before)}
    assert os.sched_getaffinity(0) == {min(before)}
  finally:
    core.release()
  assert not core.pinned
  for thread in (older, younger):
    assert thread.cores() == before
    thread.end()
  assert os.sched_getaffinity(0) == before


@needs_two_cores
def test_threads_of_another_process_are_bound_as_well():
  process = subprocess.Popen(['sleep', '60'])
  try:
    first = min(os.sched_getaffinity(0))
    cores.bind_all_threads({first}, process.pid)
    assert os.sched_getaffinity(process.pid) == {first}
    assert os.sched_getaffinity(0) != {first}
  finally:
    process.kill()
    process.wait()
