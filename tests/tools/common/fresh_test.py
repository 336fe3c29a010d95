# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Processes of `fresh`, which run `fresh_functions`."""

import os
import signal
import subprocess
import sys
import time

import pytest
from fresh_functions import MB

from tools.common import fresh, process_memory


@pytest.fixture
def process():
  with fresh.Process('fresh_functions.Counter', 5) as process:
    yield process
  with pytest.raises(ProcessLookupError):
    os.kill(process.pid, 0)


def test_an_object_lives_in_a_process_of_its_own(process):
  assert process.ask('add', 1) == 6
  assert process.ask('add', 2) == 8
  assert process.ask('pid') == process.pid != os.getpid()
  with fresh.Process('fresh_functions.Counter', 0) as other:
    assert other.ask('add', 3) == 3
  assert process.ask('add', 0) == 8


def test_a_failure_is_told_and_the_process_goes_on(process):
  with pytest.raises(fresh.ProcessError, match='ValueError: no more beer'):
    process.ask('fail')
  assert process.ask('add', 1) == 6


def test_a_process_that_ends_is_told_with_its_last_words(process):
  for _ in range(2):
    with pytest.raises(fresh.ProcessError, match=r'status 3:\nlast words'):
      process.ask('end')


def test_a_function_is_given_its_arguments():
  assert fresh.call('builtins.dict', {'a': 1}, b=2) == {'a': 1, 'b': 2}


def test_only_what_measures_memory_has_all_freed_blocks_go_back():
  key = 'MALLOC_MMAP_THRESHOLD_'
  assert fresh.call('os.getenv', key) is None
  with fresh.AliveOnly() as pool:
    found = pool.call('os.getenv', key)
  assert found == process_memory.ALIVE_ONLY_ENV[key]
  assert os.getenv(key) is None


def test_what_exceeds_the_budget_is_stopped():
  budget = fresh.call('tools.common.process_memory.peak_bytes') + 100 * MB
  started = time.monotonic()
  assert fresh.call('fresh_functions.grow', 10 * MB, budget) is None
  with pytest.raises(fresh.OverBudgetError):
    fresh.call('fresh_functions.grow', 300 * MB, budget, 30)
  # It would have slept for 30 s.
  assert time.monotonic() - started < 25


def test_deaths_of_workers_and_slowness_are_errors():
  with pytest.raises(fresh.ProcessError, match='A worker ended'):
    fresh.call('fresh_functions.lose_worker')
  with pytest.raises(fresh.ProcessError, match='more than 0 s'):
    fresh.call('time.sleep', 30, timeout=0.3)


def test_a_module_is_run_and_shown_if_it_fails():
  output, seconds = fresh.run_module('base64', '-h')
  assert 'usage' in output and seconds > 0
  with pytest.raises(fresh.ProcessError, match=r'(?s)base64 -y: .* 2\n.*usage'):
    fresh.run_module('base64', '-y')


def test_workers_end_with_the_process_that_started_them():
  pid = fresh.call('fresh_functions.leave_worker')
  _wait_for_end(pid)


def _wait_for_end(pid):
  for _ in range(600):
    try:
      os.kill(pid, 0)
    except ProcessLookupError:
      return
    time.sleep(0.05)
  os.kill(pid, signal.SIGKILL)
  pytest.fail('A process lives on.')


_KILLED = """
from tools.common import fresh
with fresh.AliveOnly() as pool:
  pool.call('fresh_functions.tell_and_sleep', {!r})
"""


def test_all_processes_end_with_the_program_however_it_ends(tmp_path):
  told = tmp_path / 'pid'
  environment = {**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)}
  program = subprocess.Popen(
    [sys.executable, '-c', _KILLED.format(str(told))], env=environment
  )
  while not told.exists():
    assert program.poll() is None
    time.sleep(0.1)
  program.kill()
  program.wait()
  _wait_for_end(int(told.read_text()))
