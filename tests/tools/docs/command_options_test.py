# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from absl import flags

from lingvo_gpipe import first_run, trainer
from tools.docs import command_options


def test_flags_of_absl_and_no_trace_of_them_is_left():
  trainer.preload()
  before = set(flags.FLAGS), flags.FLAGS['model'].default
  command = command_options.inspect(first_run.main)
  assert (set(flags.FLAGS), flags.FLAGS['model'].default) == before
  assert {'--devices', '--model', '--schedule'} <= set(command.flags)
