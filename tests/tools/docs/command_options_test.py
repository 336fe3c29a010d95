# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import argparse

import pytest
from absl import flags

from lingvo_gpipe import first_run, trainer
from tools.docs import command_options


def _argparse_main():
  parser = argparse.ArgumentParser(description='What it does.')
  parser.add_argument('--size', type=int, default=3, help='Of it.')
  parser.add_argument('file', help='A file.')
  parser.parse_args()
  pytest.fail('ran')


def test_flags_of_argparse():
  command = command_options.inspect(_argparse_main)
  assert command.doc == 'What it does.'
  assert set(command.flags) == {'-h', '--help', '--size'}
  assert command.flags['--size'] == 'Of it.'


def test_flags_of_absl_and_no_trace_of_them_is_left():
  trainer.preload()
  before = set(flags.FLAGS), flags.FLAGS['model'].default
  command = command_options.inspect(first_run.main)
  assert (set(flags.FLAGS), flags.FLAGS['model'].default) == before
  assert {'--devices', '--model', '--schedule'} <= set(command.flags)


def test_what_reads_no_command_line_is_refused():
  with pytest.raises(RuntimeError, match='reads no command line'):
    command_options.inspect(lambda: None)
