# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A step on real workers."""

from tools.benchmark.cases import Case
from tools.common import fresh


def test_a_real_step_on_two_workers_is_measured_and_its_layers_are_timed():
  case = Case(
    *('', 'transformer', 2, 64, 4, 2, 2, 8),
    num_ids=512,
    dropout=0.1,
    optimizer='adam',
  )
  run = fresh.call(
    'tools.benchmark.worker_run.run', case, [2], warm_up=True, budget=3 * 2**30
  )
  assert len(run.peaks) == 2
  # Weights and two slots.
  assert sum(run.above_idle) > 12 * run.parameters
  # No pages of code, and not what was there before.
  for data, peak, idle in zip(run.data, run.peaks, run.idle, strict=True):
    assert 0 < data < peak and idle < peak
  assert run.step_seconds > 0
  # What the planner predicts from: seconds, beside the bytes.
  cut = fresh.call('tools.benchmark.case_cut.measured', case, 1)
  assert len(cut.layers) == case.num_layers + 2
  assert sum(layer.parameters for layer in cut.layers) == run.parameters
  assert all(0 < layer.forward < 10 for layer in cut.layers)
