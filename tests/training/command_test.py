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


@pytest.mark.parametrize(
  ('error', 'status', 'said'),
  [
    (None, 0, ''),
    (user_error.UserError('--size=x: no.'), 2, 'try_it: --size=x: no.\n'),
    (KeyboardInterrupt(), 130, '\ntry_it: interrupted.\n'),
  ],
)
def test_the_end_is_a_status_and_at_most_one_line(capfd, error, status, said):
  def body(log):
    os.write(2, b'chatter\n')
    if error:
      raise error

  assert _run(body) == status
  assert capfd.readouterr() == ('', said)


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


def test_help_is_printed_without_running(capfd):
  assert _run(lambda log: pytest.fail('ran'), '--help') == 0
  out, err = capfd.readouterr()
  assert out.startswith('What it does.\n')
  assert err == ''
