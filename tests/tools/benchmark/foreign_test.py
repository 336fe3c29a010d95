# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import sys

import pytest

from tools.benchmark.foreign import ForeignProcess
from tools.benchmark.fresh import ProcessError

_ECHO = """
import json, os, sys
names = 'PYTHONPATH', 'OMP_NUM_THREADS'
print(json.dumps([json.loads(sys.argv[1]), *map(os.environ.get, names)]))
sys.stdout.flush()
for line in sys.stdin:
  command = json.loads(line)
  if command.get('fail'):
    sys.exit('no more ' + command['fail'])
  print(json.dumps({'got': command}), flush=True)
"""


@pytest.fixture
def process(tmp_path, monkeypatch):
  monkeypatch.setenv('PYTHONPATH', '/some/where')
  file = tmp_path / 'echo.py'
  file.write_text(_ECHO)
  process = ForeignProcess(sys.executable, str(file), {'a': [1]})
  yield process
  process.stop()


def test_passes_argument_commands_and_replies_and_none_of_our_packages(process):
  assert process.receive() == [{'a': [1]}, None, '1']
  assert process.ask(x=1, y='z') == {'got': {'x': 1, 'y': 'z'}}


def test_an_ended_process_is_told_with_its_last_words(process):
  process.receive()
  with pytest.raises(ProcessError, match=r'status 1:\nno more beer'):
    process.ask(fail='beer')
  with pytest.raises(ProcessError, match='no more beer'):
    process.ask(x=1)


def test_a_stopped_process_is_gone(process):
  process.receive()
  assert process._process.poll() is None
  process.stop()
  assert process._process.poll() == 0


def test_an_interpreter_that_is_not_there_is_named():
  with pytest.raises(ProcessError, match='/no/python cannot be started'):
    ForeignProcess('/no/python', 'x.py', 1)
