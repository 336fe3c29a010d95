# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import threading

import pytest

from lingvo_gpipe.training import cores

pytestmark = pytest.mark.skipif(
  cores.num_usable() < 2, reason='there is only one core'
)


def test_all_threads_are_bound_and_those_that_they_start():
  before = os.sched_getaffinity(0)
  end = threading.Event()
  threads = [threading.Thread(target=end.wait, args=(60,)) for _ in range(2)]
  threads[0].start()
  try:
    cores.bind_all_threads({min(before)})
    threads[1].start()
    for thread in (0, *(t.native_id for t in threads)):
      assert os.sched_getaffinity(thread) == {min(before)}
  finally:
    cores.bind_all_threads(before)
  assert os.sched_getaffinity(threads[0].native_id) == before
  end.set()


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
