# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os
import re

import pytest

from lingvo_gpipe.training import command, user_error


def _run(body, *args):
  def load():
    def with_log(log, loading_seconds):
      assert loading_seconds >= 0
      body(log)

    return with_log

  return command.run('try_it', 'What it does.', load, ['try_it', *args])


def test_success_is_status_0_and_a_silent_terminal(capfd):
  assert _run(lambda log: os.write(2, b'chatter\n')) == 0
  assert capfd.readouterr() == ('', '')


def test_a_user_error_is_one_line_and_status_2(capfd):
  def body(log):
    raise user_error.UserError('--size=x: must be a number.')

  assert _run(body) == 2
  assert capfd.readouterr() == ('', 'try_it: --size=x: must be a number.\n')


def test_any_other_error_names_the_log_with_the_traceback(capfd, tmp_path):
  path = tmp_path / 'log.txt'

  def body(log):
    log.move_to(path)
    # As a session words it.
    raise RuntimeError(
      "Graph execution error:\n\nDetected at node 'a' defined at\n"
      "Node: 'a'\nassertion failed: [on purpose]\n\t [[a]]"
    )

  assert _run(body) == 1
  out, err = capfd.readouterr()
  assert out == ''
  # The line of the user's that led to it: here one of this test.
  assert re.fullmatch(
    r'try_it: RuntimeError: assertion failed: \[on purpose\]\n'
    rf'try_it: in {__file__}, line \d+: raise RuntimeError\(\n'
    rf'try_it: the traceback is at the end of {path}\n',
    err,
  )
  assert 'Traceback' in path.read_text()


def test_interrupted_is_status_130(capfd):
  def body(log):
    raise KeyboardInterrupt

  assert _run(body) == 130
  assert capfd.readouterr().err == '\ntry_it: interrupted.\n'


@pytest.mark.parametrize('flag', ['--help', '-h'])
def test_help_is_printed_without_running(capfd, flag):
  assert _run(lambda log: pytest.fail('ran'), flag) == 0
  out, err = capfd.readouterr()
  assert out.startswith('What it does.\n')
  assert err == ''
