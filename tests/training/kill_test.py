# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The trainer is killed and goes on; more moments: tools/kill_trainer.py."""

import subprocess
import sys

import child_process


def test_after_kills_at_random_moments_all_losses_are_as_without():
  flags = ['--model=stand_in_pipeline.Small', '--moments=5', '--steps=40']
  result = subprocess.run(
    [sys.executable, child_process.ROOT / 'tools/kill_trainer.py', *flags],
    env=child_process.environment(),
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )
  assert result.returncode == 0, result.stdout + result.stderr
  lines = result.stdout.splitlines()
  assert sum(', killed' in line for line in lines) == 5
  # Not all of them before there was anything to lose.
  assert any('killed' in line and ' 0 steps' not in line for line in lines)
  assert lines[-1] == '5 kills: all losses and weights are bit-identical'
