# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from tools.benchmark import link_speed
from tools.benchmark.child_process import ChildProcess
from tools.benchmark.training_case import TrainingCase


def test_latency_and_speed_are_what_is_more_than_an_empty_step():
  # Twenty transfers: 1 ms each, and 4 MiB in 2 ms more.
  found = link_speed.speed(0.005, 0.025, 0.065)
  assert found.latency == pytest.approx(0.001)
  assert found.bytes_a_second == pytest.approx(2**22 / 0.002, rel=1e-3)


def test_noise_makes_no_negative_times():
  found = link_speed.speed(0.005, 0.004, 0.003)
  assert found.latency == 0
  assert found.bytes_a_second > 0


def test_one_worker_has_no_links():
  assert link_speed.measure(1) == link_speed.LinkSpeed(0.0, None)


def test_transfers_and_updates_of_real_workers_take_time():
  case = TrainingCase('transformer', 2, 16, 8, 4, num_workers=2)
  arguments = {'case': dataclasses.asdict(case), 'timeout': 120.0}
  with ChildProcess('tools.benchmark.training_server', {}) as server:
    link = server.ask(do='link_speed', **arguments)['result']
    update = server.ask(
      do='update_seconds', splits=[2], timed_steps=2, **arguments
    )['result']
  assert 0 < link['latency'] < 1
  assert link['bytes_a_second'] > 2**20
  assert 0 < update < 10
