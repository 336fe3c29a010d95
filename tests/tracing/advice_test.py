# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import trace_testing as tt

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting.partitioner import LayerCost, PipelineSpec, partition
from lingvo_gpipe.schedules import TaskKind
from lingvo_gpipe.tracing import advice
from lingvo_gpipe.tracing.measured_step import TracedPipeline

MS = tt.MS


def _cut(*splits, share=None):
  layers = [
    LayerCost(f'l{i}', forward=1, backward=2, weight_share=share)
    for i in range(4)
  ]
  spec = PipelineSpec(num_devices=2, num_micro_batches=4, recompute='never')
  return partition(layers, spec, splits)


def _in_two(share):
  """The usual times, with a share of B as a W."""
  weights = {(TaskKind.WEIGHT_GRADIENT, k): 2 * share * MS for k in (0, 1)}
  return {**tt.durations(backward=[2 * (1 - share)] * 2), **weights}


_OF = tt.durations()
_HALF = {key: time / 2 for key, time in _OF.items()}
_UNEVEN = tt.durations((1, 3), (2, 6))
_EVEN = tt.durations((2, 2), (4, 4))


def _traced(
  of=_OF, name='1f1b', transfer=0.0, delay=0.0, first=0, again=None, **known
):
  """A step of two cells; 7 ms of it are outside of the pipeline."""
  emitted = tt.emitted(name, workers=bool(transfer), first_backward=first)
  step = tt.step(emitted, of, transfer=transfer, delay=delay)
  known = {'recompute': 'never', 'loss_inside': True, **known}
  traced = TracedPipeline('m', 'net', ('a', 'b'), steps={1: step}, **known)
  if again:
    traced.recompute_times = again
  return traced


def _simulated(of=_OF, name='1f1b', transfer=0.0, num_micro_batches=4, **_):
  schedule = schedules.make_schedule(name, (0, 1), num_micro_batches)
  return schedules.simulate(schedule, of, transfer).step_time


def _proposal(traced, start):
  """The one whose setting, or else change, begins so."""
  found = advice.proposals(traced)
  [proposal] = [p for p in found if (p.setting or p.change).startswith(start)]
  return proposal


_GPIPE, _ZB_H1 = '--schedule=gpipe', '--schedule=zb_h1'


@pytest.mark.parametrize(
  ('ran', 'proposal', 'then'),
  [
    ({}, '--micro_batches=8', {'of': _HALF, 'num_micro_batches': 8}),
    ({'of': _UNEVEN}, 'cells that all', {'of': _EVEN}),
    # Three layers of cell 1 take three times as long as the one of cell 0.
    ({'of': _UNEVEN, 'cut': _cut(1)}, 'splits=[2]', {'of': _EVEN}),
    (
      {'recompute': 'always', 'again': [0.5 * MS, 0.5 * MS]},
      '--recompute=never',
      {'of': tt.durations(backward=(1.5, 1.5))},
    ),
    # Under 1F1B only the first cell recomputes.
    (
      {'recompute': 'always', 'again': [0.5 * MS, 0.0]},
      _GPIPE,
      {'of': tt.durations(backward=(2, 3)), 'name': 'gpipe'},
    ),
    ({'transfer': 0.5 * MS}, 'transfers', {}),
    ({}, _ZB_H1, {'of': _in_two(0.5), 'name': 'zb_h1'}),
    (
      {'cut': _cut(2, share=0.25)},
      _ZB_H1,
      {'of': _in_two(0.25), 'name': 'zb_h1'},
    ),
    ({'of': _in_two(0.25), 'name': 'zb_h1'}, '--schedule=1f1b', {}),
  ],
)
def test_a_change_gains_what_the_simulator_says(ran, proposal, then):
  found = _proposal(_traced(**ran), proposal)
  gain = _simulated(**ran) - _simulated(**then)
  assert found.gain_seconds == pytest.approx(gain)
  share = gain / (_simulated(**ran) + 7 * MS)
  assert found.gain_share == pytest.approx(share, rel=0.01)


def test_there_are_no_more_micro_batches_than_examples():
  found = [p.setting for p in advice.proposals(_traced(num_examples=8))]
  assert '--micro_batches=8' in found
  assert '--micro_batches=16' not in found


def test_a_delay_for_each_task_speaks_against_more_of_them():
  found = _proposal(_traced(delay=2 * MS), '--micro_batches=8')
  assert found.gain_seconds < 0


def test_cells_of_which_some_have_no_backward_tasks_can_be_balanced():
  traced = _traced(tt.durations((4, 1), (2, 2)), first=1)
  assert _proposal(traced, 'cells that all').gain_seconds > 0


@pytest.mark.parametrize(
  ('ran', 'change'),
  [
    # By the plan the cells are equal; as measured, no other cut is better.
    ({'of': tt.durations((2, 2.2), (4, 4.4)), 'cut': _cut(2)}, 'cut'),
    # Nothing was recomputed.
    ({'recompute': 'always'}, 'recompute'),
    ({'loss_inside': False}, 'schedule'),
    # It wants other devices.
    ({}, 'schedule zb_v'),
  ],
)
def test_what_makes_no_sense_is_not_proposed(ran, change):
  found = advice.proposals(_traced(**ran))
  assert not any(proposal.change.startswith(change) for proposal in found)


def test_settings_come_first_and_what_gains_most():
  found = advice.proposals(_traced(transfer=0.5 * MS))
  order = [(p.setting is None, -p.gain_seconds) for p in found]
  assert order == sorted(order)
  assert found[0].gain_seconds > 0
  assert found[-1].setting is None
