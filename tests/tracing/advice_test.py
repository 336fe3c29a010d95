# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
import trace_testing as tt

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting.partitioner import LayerCost, PipelineSpec, partition
from lingvo_gpipe.schedules import TaskKind
from lingvo_gpipe.tracing import advice
from lingvo_gpipe.tracing.cell_times import cell_times

MS = tt.MS


def _situation(of, *, num_micro_batches=4, transfer=0.0, **kwargs):
  emitted = tt.emitted(
    num_micro_batches=num_micro_batches, workers=bool(transfer)
  )
  step = tt.step(emitted, of, transfer=transfer)
  given = {
    'transfer_times': (transfer,),
    'delay': 0.0,
    'step': step.seconds,
    'outside': 7 * MS,
    'waits': 0.0,
    'loss_inside': True,
    'recompute': 'never',
    **kwargs,
  }
  return advice.Situation(
    schedule=emitted.schedule, times=cell_times([step]), **given
  )


def _gain(situation, start):
  [found] = [
    p for p in advice.proposals(situation) if p.change.startswith(start)
  ]
  return found


def _simulated(of, num_micro_batches=4, name='1f1b', transfer=0.0):
  schedule = schedules.make_schedule(name, (0, 1), num_micro_batches)
  return schedules.simulate(schedule, of, transfer).step_time


def test_more_micro_batches_gain_what_the_simulator_says():
  of = tt.durations()
  found = _gain(_situation(of, num_examples=16), '8 micro-batches')
  half = {key: time / 2 for key, time in of.items()}
  gain = _simulated(of) - _simulated(half, 8)
  assert gain > 0
  assert found.gain == pytest.approx(gain)
  assert found.share == pytest.approx(gain / (_simulated(of) + 7 * MS))
  assert found.setting == '--micro_batches=8'


def test_there_are_no_more_micro_batches_than_examples():
  situation = _situation(tt.durations(), num_examples=8)
  changes = [p.change for p in advice.proposals(situation)]
  assert '8 micro-batches instead of 4' in changes
  assert '16 micro-batches instead of 4' not in changes


def test_a_delay_for_each_task_speaks_against_more_of_them():
  found = _gain(_situation(tt.durations(), delay=2 * MS), '8 micro-batches')
  assert found.gain < 0


def test_equal_cells_are_a_bound_on_what_balance_gains():
  of = tt.durations((1, 3), (2, 6))
  found = _gain(_situation(of), 'cells that all')
  gain = _simulated(of) - _simulated(tt.durations((2, 2), (4, 4)))
  assert found.gain == pytest.approx(gain)
  assert found.setting is None


def _cut(splits):
  layers = [LayerCost(f'l{i}', forward=1, backward=2) for i in range(4)]
  spec = PipelineSpec(num_devices=2, num_micro_batches=4, recompute='never')
  return partition(layers, spec, splits)


def test_the_best_cut_is_found_with_the_measured_times():
  # Three layers of cell 1 take three times as long as the one of cell 0.
  of = tt.durations((1, 3), (2, 6))
  found = _gain(_situation(of, cut=_cut([1])), 'cut the layers')
  assert found.setting == 'splits=[2]'
  gain = _simulated(of) - _simulated(tt.durations((2, 2), (4, 4)))
  assert found.gain == pytest.approx(gain)


def test_a_cut_that_cannot_be_better_is_not_proposed():
  # By the plan the cells are equal; as measured, no other cut is better.
  situation = _situation(tt.durations((2, 2.2), (4, 4.4)), cut=_cut([2]))
  changes = [p.change for p in advice.proposals(situation)]
  assert not any(change.startswith('cut the layers') for change in changes)


def test_recomputation_that_was_measured_could_be_left_out():
  of = tt.durations()
  situation = _situation(of, recompute='always')
  assert not [p for p in advice.proposals(situation) if 'recompute' in p.change]
  times = dataclasses.replace(situation.times, recompute=(0.5 * MS, 0.5 * MS))
  situation = dataclasses.replace(situation, times=times)
  found = _gain(situation, 'recompute never')
  gain = _simulated(of) - _simulated(tt.durations(backward=(1.5, 1.5)))
  assert found.gain == pytest.approx(gain)


def test_under_fill_drain_the_last_cell_would_recompute_again():
  of = tt.durations()
  situation = _situation(of, recompute='always')
  # Under 1F1B only the first cell recomputes.
  times = dataclasses.replace(situation.times, recompute=(0.5 * MS, 0.0))
  situation = dataclasses.replace(situation, times=times)
  slower = dict(of)
  slower[TaskKind.BACKWARD, 1] += of[TaskKind.FORWARD, 1]
  found = _gain(situation, 'schedule gpipe')
  gain = _simulated(of) - _simulated(slower, name='gpipe')
  assert gain < _simulated(of) - _simulated(of, name='gpipe')
  assert found.gain == pytest.approx(gain)


def test_transfers_and_other_schedules_are_simulated():
  of = tt.durations()
  situation = _situation(of, transfer=0.5 * MS)
  gain = _simulated(of, transfer=0.5 * MS) - _simulated(of)
  assert _gain(situation, 'transfers').gain == pytest.approx(gain)
  other = _gain(situation, 'schedule gpipe')
  gain = _simulated(of, transfer=0.5 * MS) - _simulated(
    of, name='gpipe', transfer=0.5 * MS
  )
  assert other.gain == pytest.approx(gain)
  outside = dataclasses.replace(situation, loss_inside=False)
  assert not [p for p in advice.proposals(outside) if 'schedule' in p.change]


def test_what_gains_most_comes_first():
  gains = [p.gain for p in advice.proposals(_situation(tt.durations()))]
  assert gains == sorted(gains, reverse=True)
  assert gains[0] == pytest.approx(7 * MS)
