# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pathlib
import sys

import pytest

from tools.benchmark.child_process import ChildError, ChildProcess

_ECHO = """
import json, os, sys
print(json.dumps([json.loads(sys.argv[1]), os.environ.get('COLOUR')]))
sys.stdout.flush()
for line in sys.stdin:
  command = json.loads(line)
  if command.get('fail'):
    sys.exit('no more ' + command['fail'])
  print(json.dumps({'got': command}), flush=True)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
  """The name of a module that children can run."""
  (tmp_path / 'echoing_child.py').write_text(_ECHO)
  monkeypatch.syspath_prepend(tmp_path)
  return 'echoing_child'


def test_passes_argument_environment_commands_and_replies(module):
  with ChildProcess(module, {'a': [1]}, {'COLOUR': 'red'}) as child:
    assert child.receive() == [{'a': [1]}, 'red']
    assert child.ask(x=1, y='z') == {'got': {'x': 1, 'y': 'z'}}


def test_an_ended_child_is_told_with_its_last_words(module):
  with ChildProcess(module, 0) as child:
    child.receive()
    with pytest.raises(ChildError, match=r'status 1:\nno more beer'):
      child.ask(fail='beer')
    with pytest.raises(ChildError, match='no more beer'):
      child.ask(x=1)


def test_the_child_ends_with_the_block(module):
  with ChildProcess(module, 0) as child:
    child.receive()
    process = child._process
    assert process.poll() is None
  assert process.poll() == 0


def test_another_interpreter_gets_none_of_our_packages(module, monkeypatch):
  monkeypatch.setenv('PYTHONPATH', '/some/where')
  with ChildProcess(module, 1, python=sys.executable) as child:
    assert child.receive()[0] == 1
    environment = pathlib.Path(f'/proc/{child._process.pid}/environ')
    assert b'PYTHONPATH' not in environment.read_bytes()


def test_an_interpreter_that_is_not_there_is_named(module):
  with pytest.raises(ChildError, match='/no/python cannot be started'):
    ChildProcess(module, 1, python='/no/python')
