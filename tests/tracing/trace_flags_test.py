# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

_TOLD_EARLY = """
import sys
sys.modules['matplotlib'] = None  # As if it were not installed.
from lingvo_gpipe import first_run, trainer
for flags in {cases}:
  of_trainer = ['trainer', '--model=a.B', '--logdir=/tmp/a', *flags]
  assert trainer.main(of_trainer) == 2
  assert first_run.main(['first_run', *flags]) == 2
  for name in ('devices', 'steps'):  # Of first_run, which defines them again.
    delattr(first_run.flags.FLAGS, name)
assert 'tensorflow' not in sys.modules
"""


def test_what_cannot_be_traced_is_told_before_tensorflow_is_imported():
  cases = {
    ('--trace_step=3',): 'matplotlib is not installed',
    ('--trace_steps=2',): '--trace_steps=2 needs --trace_step',
    ('--trace_step=2', '--use_eager'): 'leave out --use_eager',
  }
  ended = subprocess.run(
    [sys.executable, '-c', _TOLD_EARLY.format(cases=list(cases))],
    capture_output=True,
    text=True,
    check=False,
  )
  assert ended.returncode == 0, ended.stderr
  said = iter(ended.stderr.splitlines())
  for message in cases.values():
    for command in ('trainer', 'first_run'):
      line = next(said)
      assert line.startswith(f'{command}: ') and message in line
