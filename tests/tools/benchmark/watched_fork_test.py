# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""In a process of its own, which has no threads to lose in a fork."""

import json
import subprocess
import sys

import pytest

from tools.benchmark import process_memory

pytestmark = pytest.mark.skipif(
  not process_memory.available(), reason='/proc takes Linux'
)

_PROGRAM = """
import json, os, time
from tools.benchmark import watched_fork
MB = 2**20
spare = 60 * MB

def small(announce):
  announce([os.getpid()])
  return {'got': 7}

def large(announce):
  announce([os.getpid()])
  data = b'x' * (300 * MB)
  time.sleep(30)

def fails(announce):
  raise ValueError('no such thing')

def dies(announce):
  os._exit(3)

def worker_dies(announce):
  pid = os.fork()
  if not pid:
    time.sleep(0.2)
    os._exit(1)
  announce([pid])
  time.sleep(30)

def slow(announce):
  time.sleep(30)

budget = 200 * MB
call = lambda f, timeout=20: watched_fork.call(f, budget, timeout)
started = time.monotonic()
replies = [call(f) for f in (small, large, fails, dies, worker_dies)]
replies.append(call(slow, 0.3))
replies.append(time.monotonic() - started)
print(json.dumps(replies))
"""


@pytest.fixture(scope='module')
def replies():
  run = subprocess.run(
    [sys.executable, '-c', _PROGRAM],
    check=True,
    capture_output=True,
    text=True,
    env={'PYTHONPATH': ':'.join(filter(None, sys.path))},
  )
  return json.loads(run.stdout)


def test_a_result_comes_back(replies):
  assert replies[0] == {'result': {'got': 7}}


def test_what_exceeds_the_budget_is_stopped(replies):
  (peak,) = replies[1]['over']
  assert peak > 200 * 2**20
  # None of the sleeps of 30 s was slept out.
  assert replies[-1] < 25


def test_an_error_is_named(replies):
  assert replies[2] == {'error': 'ValueError: no such thing'}


def test_deaths_and_slowness_are_errors(replies):
  assert 'without a result' in replies[3]['error']
  assert 'A worker ended' in replies[4]['error']
  assert '0 s' in replies[5]['error']
