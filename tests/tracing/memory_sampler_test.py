# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import time

import trace_testing as tt

from lingvo_gpipe.launching.local_cluster import WORKER_PIDS
from lingvo_gpipe.tracing.events import process_of
from lingvo_gpipe.tracing.memory_sampler import local_pids, sampled


def test_memory_that_comes_while_it_reads_shows():
  with sampled({'here': os.getpid()}) as memory:
    time.sleep(0.05)
    data = b'x' * 2**26
    time.sleep(0.05)
  times, sizes = zip(*memory['here'], strict=True)
  assert sorted([0, *times, 60]) == [0, *times, 60]
  assert max(sizes) - min(sizes) > 0.9 * len(data)


def test_of_a_process_that_is_gone_nothing_is_known():
  with sampled({'gone': 2**22 + 1}) as memory:
    time.sleep(0.01)
  assert memory == {}


def test_workers_of_this_machine_are_known_by_their_tasks(monkeypatch):
  devices = [tt.cpu(0, 1), tt.cpu(0, 0), tt.cpu(0, 2)]
  monkeypatch.setenv(WORKER_PIDS, '11 12')
  assert local_pids(devices, uses_servers=True) == {
    process_of(tt.cpu(0, 0)): 11,
    process_of(tt.cpu(0, 1)): 12,
  }
  monkeypatch.delenv(WORKER_PIDS)
  assert local_pids(devices, uses_servers=True) == {}


def test_devices_without_servers_are_in_this_process():
  assert local_pids([tt.cpu(0), tt.cpu(1)], uses_servers=False) == {
    process_of(tt.cpu(0)): os.getpid()
  }
  # Their memory is not the process's.
  assert local_pids([tt.cpu(0).replace('C', 'G')], uses_servers=False) == {}
