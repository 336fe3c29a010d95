# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Follows a page of docs/ in this process, where importing TensorFlow is paid.

Files are saved, programs run, and what they print is compared. Of commands
other than `python FILE` only the flags are checked: a training takes its time.
"""

import contextlib
import functools
import io
import os
import pathlib
import runpy
import shlex
import sys
from unittest import mock

from tools.docs import markdown_blocks

DOCS = pathlib.Path(__file__).parents[2] / 'docs'

# Commands that need no check.
_PLAIN_COMMANDS = ('.', 'cd', 'pip', 'rm')


def follow(name, directory):
  page = (DOCS / name).read_text(encoding='utf-8')
  printed, compared = None, 0
  with _working_in(directory):
    for block in markdown_blocks.blocks(page):
      where = f'{name}, line {block.line}'
      if block.file_name:
        (directory / block.file_name).write_text(block.code)
        printed = None
      elif block.language == 'python':
        printed = _printed_by(lambda block=block: exec(block.code, {}))
      elif block.language == 'sh':
        printed = _run_commands(block.code, where)
      elif block.language == 'text':
        assert printed == block.code, f'{where}: this is printed:\n{printed}'
        compared += 1
  return compared


@contextlib.contextmanager
def _working_in(directory):
  """Inside, `directory` is where Python finds modules; they go afterwards."""
  before, modules = pathlib.Path.cwd(), set(sys.modules)
  path = [str(directory), *sys.path]
  os.chdir(directory)
  try:
    with mock.patch.object(sys, 'path', path):
      yield
  finally:
    os.chdir(before)
    for name in set(sys.modules) - modules:
      file = getattr(sys.modules[name], '__file__', None) or ''
      if file.startswith(str(directory)):
        _forget(name)


def _forget(module):
  """Takes a page's module, and the models in it, out of this process."""
  del sys.modules[module]
  if 'lingvo.model_registry' in sys.modules:
    helper = sys.modules['lingvo.model_registry']._ModelRegistryHelper
    for key in [k for k in helper._MODEL_PARAMS if k.startswith(f'{module}.')]:
      del helper._MODEL_PARAMS[key]


def _printed_by(run):
  stream = io.StringIO()
  with contextlib.redirect_stdout(stream):
    run()
  return stream.getvalue()


def _run_commands(code, where):
  """Runs programs of the page; returns what they print, None if none runs."""
  printed = None
  for words in _commands_in(code):
    if words[0] == 'python' and words[1].endswith('.py'):
      with mock.patch.object(sys, 'argv', words[1:]):
        run = functools.partial(runpy.run_path, words[1], run_name='__main__')
        printed = (printed or '') + _printed_by(run)
    else:
      check_flags(words, where)
  return printed


def _commands_in(code):
  """The words of each command that needs a check."""
  for line in code.replace('\\\n', ' ').splitlines():
    words = shlex.split(line, comments=True)
    if words and words[0] not in _PLAIN_COMMANDS and 'venv' not in words[:3]:
      yield words


@functools.cache
def _commands():
  from tools.docs import reference_page

  return dict(reference_page.commands())


def check_commands(page):
  """Checks the commands of a page, a file; returns how many there are."""
  count = 0
  for block in markdown_blocks.blocks(page.read_text(encoding='utf-8')):
    for words in _commands_in(block.code) if block.language == 'sh' else ():
      check_flags(words, f'{page.name}, line {block.line}')
      count += 1
  return count


def check_flags(words, where):
  """Asserts that a command is one of ours, and has the flags it is given."""
  from absl import flags

  from lingvo_gpipe.training import model_lookup
  from tools.docs import command_options

  if words[0].endswith('.sh'):
    assert (DOCS.parent / words[0]).exists(), f'{where}: {words[0]}'
    if words[0] == 'tools/run_tests.sh':
      return
    assert words[0] == 'tools/first_run.sh', f'{where}: {words[0]}'
    words = ['python', '-m', 'lingvo_gpipe.first_run', *words[1:]]
  commands = _commands()
  call = ' '.join(words[:3] if words[1:2] == ['-m'] else words[:1])
  assert call in commands, f'{where}: {call} is none of {sorted(commands)}'
  rest = words[len(call.split()) :]
  split = rest.index('--') if '--' in rest else len(rest)
  given, of_trainer = rest[:split], rest[split + 1 :]
  options = command_options.inspect(commands[call]).flags
  for word in given:
    flag = word.partition('=')[0]
    if flag.startswith('--') and flag not in options:
      known = call.startswith('python') and flag[2:] in flags.FLAGS
      assert known, f'{where}: {call} has no flag {flag}'
  for word in of_trainer:
    assert word.partition('=')[0].removeprefix('--') in flags.FLAGS, word
  for word in given + of_trainer:
    if word.startswith('--model='):
      model_lookup.find_model(word.partition('=')[2])
