# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import argparse

import pytest
from absl import flags

from lingvo_gpipe import first_run, trainer
from tools.docs import command_options


def _argparse_main():
  parser = argparse.ArgumentParser(description='What it does.')
  parser.add_argument('--size', type=int, default=3, help='Of it (default 3)')
  parser.add_argument('--kind', choices=['a', 'b'], help='Which.')
  parser.add_argument('--secret', help=argparse.SUPPRESS)
  parser.add_argument('file', help='A file.')
  parser.parse_args()
  pytest.fail('ran')


def test_flags_of_argparse_with_defaults_and_choices():
  command = command_options.inspect(_argparse_main)
  assert command.doc == 'What it does.'
  assert command.options == (
    command_options.Option(('--size',), '3', 'Of it'),
    command_options.Option(('--kind',), '', 'Which. One of `a`, `b`.'),
    command_options.Option(('file',), '', 'A file.'),
  )


def test_flags_of_absl_and_no_trace_of_them_is_left():
  trainer.preload()
  before = set(flags.FLAGS), flags.FLAGS['model'].default
  command = command_options.inspect(first_run.main)
  assert (set(flags.FLAGS), flags.FLAGS['model'].default) == before
  options = {option.names[0]: option for option in command.options}
  assert options['--devices'].default == '2'
  assert options['--model'].default == 'image.digits.AmoebaNetD'
  assert options['--model'].text.endswith('(Lingvo)')
  assert 'One of `gpipe`' in options['--schedule'].text
  assert not options['--schedule'].text.startswith('<')


def test_what_reads_no_command_line_is_refused():
  with pytest.raises(RuntimeError, match='reads no command line'):
    command_options.inspect(lambda: None)
