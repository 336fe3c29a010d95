# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import trace_testing as tt

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting.partitioner import LayerCost, PipelineSpec, partition
from lingvo_gpipe.schedules import TaskKind
from lingvo_gpipe.tracing import advice
from lingvo_gpipe.tracing.traced_pipeline import TracedPipeline

MS = tt.MS


def _traced(
  of,
  *,
  name='1f1b',
  num_micro_batches=4,
  transfer=0.0,
  delay=0.0,
  **setup,
):
  """A step of two cells; 7 ms of it are outside of the pipeline."""
  emitted = tt.emitted(
    name, num_micro_batches=num_micro_batches, workers=bool(transfer)
  )
  step = tt.step(emitted, of, transfer=transfer, delay=delay)
  given = {'recompute': 'never', 'loss_inside': True, **setup}
  return TracedPipeline('m', 'net', ('a', 'b'), steps={1: step}, **given)


def _changes(traced):
  return [p.change for p in advice.proposals(traced)]


def _gain(traced, start):
  [found] = [p for p in advice.proposals(traced) if p.change.startswith(start)]
  return found


def _simulated(of, num_micro_batches=4, name='1f1b', transfer=0.0):
  schedule = schedules.make_schedule(name, (0, 1), num_micro_batches)
  return schedules.simulate(schedule, of, transfer).step_time


def test_more_micro_batches_gain_what_the_simulator_says():
  of = tt.durations()
  found = _gain(_traced(of, num_examples=16), '8 micro-batches')
  half = {key: time / 2 for key, time in of.items()}
  gain = _simulated(of) - _simulated(half, 8)
  assert gain > 0
  assert found.gain_seconds == pytest.approx(gain)
  assert found.gain_share == pytest.approx(gain / (_simulated(of) + 7 * MS))
  assert found.setting == '--micro_batches=8'


def test_there_are_no_more_micro_batches_than_examples():
  traced = _traced(tt.durations(), num_examples=8)
  changes = _changes(traced)
  assert '8 micro-batches instead of 4' in changes
  assert '16 micro-batches instead of 4' not in changes


def test_a_delay_for_each_task_speaks_against_more_of_them():
  found = _gain(_traced(tt.durations(), delay=2 * MS), '8 micro-batches')
  assert found.gain_seconds < 0


def test_equal_cells_are_a_bound_on_what_balance_gains():
  of = tt.durations((1, 3), (2, 6))
  found = _gain(_traced(of), 'cells that all')
  gain = _simulated(of) - _simulated(tt.durations((2, 2), (4, 4)))
  assert found.gain_seconds == pytest.approx(gain)
  assert found.setting is None


def _cut(splits, share=None):
  layers = [
    LayerCost(f'l{i}', forward=1, backward=2, weight_share=share)
    for i in range(4)
  ]
  spec = PipelineSpec(num_devices=2, num_micro_batches=4, recompute='never')
  return partition(layers, spec, splits)


def test_the_best_cut_is_found_with_the_measured_times():
  # Three layers of cell 1 take three times as long as the one of cell 0.
  of = tt.durations((1, 3), (2, 6))
  found = _gain(_traced(of, cut=_cut([1])), 'cut the layers')
  assert found.setting == 'splits=[2]'
  gain = _simulated(of) - _simulated(tt.durations((2, 2), (4, 4)))
  assert found.gain_seconds == pytest.approx(gain)


def test_a_cut_that_cannot_be_better_is_not_proposed():
  # By the plan the cells are equal; as measured, no other cut is better.
  traced = _traced(tt.durations((2, 2.2), (4, 4.4)), cut=_cut([2]))
  changes = _changes(traced)
  assert not any(change.startswith('cut the layers') for change in changes)


def test_recomputation_that_was_measured_could_be_left_out():
  of = tt.durations()
  traced = _traced(of, recompute='always')
  assert not any('recompute' in change for change in _changes(traced))
  traced.recompute_times = [0.5 * MS, 0.5 * MS]
  found = _gain(traced, 'recompute never')
  gain = _simulated(of) - _simulated(tt.durations(backward=(1.5, 1.5)))
  assert found.gain_seconds == pytest.approx(gain)


def test_under_fill_drain_the_last_cell_would_recompute_again():
  of = tt.durations()
  traced = _traced(of, recompute='always')
  # Under 1F1B only the first cell recomputes.
  traced.recompute_times = [0.5 * MS, 0.0]
  slower = dict(of)
  slower[TaskKind.BACKWARD, 1] += of[TaskKind.FORWARD, 1]
  found = _gain(traced, 'schedule gpipe')
  gain = _simulated(of) - _simulated(slower, name='gpipe')
  assert gain < _simulated(of) - _simulated(of, name='gpipe')
  assert found.gain_seconds == pytest.approx(gain)


def test_transfers_and_other_schedules_are_simulated():
  of = tt.durations()
  traced = _traced(of, transfer=0.5 * MS)
  gain = _simulated(of, transfer=0.5 * MS) - _simulated(of)
  assert _gain(traced, 'transfers').gain_seconds == pytest.approx(gain)
  other = _gain(traced, 'schedule gpipe')
  gain = _simulated(of, transfer=0.5 * MS) - _simulated(
    of, name='gpipe', transfer=0.5 * MS
  )
  assert other.gain_seconds == pytest.approx(gain)
  outside = _traced(of, loss_inside=False)
  assert not any('schedule' in change for change in _changes(outside))


def _in_two(of, share):
  """The times with a share of B as a W."""
  two = dict(of)
  for k in (0, 1):
    two[TaskKind.WEIGHT_GRADIENT, k] = share * of[TaskKind.BACKWARD, k]
    two[TaskKind.BACKWARD, k] -= two[TaskKind.WEIGHT_GRADIENT, k]
  return two


@pytest.mark.parametrize('share', [None, 0.25])
def test_a_backward_pass_in_two_is_proposed_with_the_planned_parts(share):
  of = tt.durations()
  cut = None if share is None else _cut((2,), share)
  found = _gain(_traced(of, cut=cut), 'schedule zb_h1')
  gain = _simulated(of) - _simulated(_in_two(of, share or 0.5), name='zb_h1')
  assert gain > 0
  assert found.gain_seconds == pytest.approx(gain)
  assert ('half' in found.condition) == (share is None)
  assert found.setting == '--schedule=zb_h1'


def test_measured_parts_of_a_backward_pass_are_one_in_other_schedules():
  of = tt.durations()
  two = _in_two(of, 0.25)
  traced = _traced(two, name='zb_h1')
  found = _gain(traced, 'schedule 1f1b')
  gain = _simulated(two, name='zb_h1') - _simulated(of)
  assert gain < 0
  assert found.gain_seconds == pytest.approx(gain)
  assert found.condition == ''


def test_schedules_that_want_other_devices_are_not_proposed():
  assert not any(
    'zb_v' in change for change in _changes(_traced(tt.durations()))
  )


def test_what_gains_most_comes_first():
  gains = [p.gain_seconds for p in advice.proposals(_traced(tt.durations()))]
  assert gains == sorted(gains, reverse=True)
  assert gains[0] == pytest.approx(7 * MS)
