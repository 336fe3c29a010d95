# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import trace_testing as tt

from lingvo_gpipe.tracing import events


def test_ops_have_times_after_the_start_of_the_step():
  stats = tt.step_stats(
    {
      tt.cpu(0): [tt.node('a', 0.25, 0.5)],
      tt.cpu(1): [tt.node('b', 0.1, 0.1, micros_only=True)],
    }
  )
  step = events.read(stats, tt.START)
  a, b = step.ops
  assert (a.name, a.device) == ('a', tt.cpu(0))
  assert (a.start, a.end) == pytest.approx((0.25, 0.5))
  assert (b.start, b.end) == pytest.approx((0.1, 0.1))


def test_tensors_from_other_processes_are_told_by_their_label():
  label = (
    '[0.8MB] [1.2Gb/s] edge_84_net/cell_1_B1/PartitionedCall from '
    f'{tt.cpu(0, 1)} to {tt.cpu(0, 0)}'
  )
  stats = tt.step_stats(
    {tt.cpu(0, 0): [tt.node('RecvTensor', 0.1, 0.3, label, micros_only=True)]}
  )
  step = events.read(stats, tt.START)
  assert step.ops == []
  [transfer] = step.transfers
  assert transfer.op == 'net/cell_1_B1/PartitionedCall'
  assert transfer.device == tt.cpu(0, 0)
  assert transfer.end == pytest.approx(0.3)
