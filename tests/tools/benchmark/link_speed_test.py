# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from tools.benchmark import link_speed
from tools.benchmark.cases import Case
from tools.common import fresh


def test_latency_and_speed_are_what_is_more_than_an_empty_step():
  # Twenty transfers: 1 ms each, and 4 MiB in 2 ms more.
  latency, bytes_a_second = link_speed.speed(0.005, 0.025, 0.065)
  assert latency == pytest.approx(0.001)
  assert bytes_a_second == pytest.approx(2**22 / 0.002, rel=1e-3)


def test_transfers_and_updates_of_real_workers_take_time():
  case = Case(
    *('', 'transformer', 2, 16, 4, 2, 1, 8), num_ids=50, optimizer='adam'
  )
  latency, bytes_a_second = fresh.call(
    'tools.benchmark.link_speed.measure', 2, timeout=120
  )
  update, [seconds] = fresh.call(
    'tools.benchmark.worker_run.take_turns', [case], [[2]], 2
  )
  assert 0 < latency < 1
  assert bytes_a_second > 2**20
  assert 0 < update < 10
  assert len(seconds) == 2
