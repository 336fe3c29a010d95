# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import trace_testing as tt

from lingvo_gpipe import schedules
from lingvo_gpipe.tracing.task_times import aligned, measured_step

MS = tt.MS


def _without(events, tasks):
  names = {tt.op_name(task) for task in tasks}
  left = tuple(op for op in events.ops if op.name not in names)
  return events._replace(ops=left)


def test_tasks_are_found_by_the_names_of_their_ops():
  emitted = tt.emitted()
  of = tt.durations()
  step = tt.step(emitted, of)
  timeline = schedules.simulate(emitted.schedule, of)
  assert step.start == pytest.approx(timeline.start, abs=1e-8)
  assert step.end == pytest.approx(timeline.end, abs=1e-8)
  assert step.length == pytest.approx(timeline.step_time)
  assert step.before == pytest.approx(3 * MS)
  assert step.seconds == pytest.approx(7 * MS + step.length)
  assert step.devices == (tt.cpu(0), tt.cpu(1))
  assert not step.arrival
  assert not step.clock_shifts


def test_a_task_that_was_not_recorded_is_named():
  emitted = tt.emitted()
  events = tt.run(emitted, tt.durations())
  without = _without(events, [tt.backward(1, 2)])
  with pytest.raises(RuntimeError, match=r'no event of task\(s\) B1\.2\.'):
    measured_step(emitted, without)
  assert measured_step(emitted, events._replace(ops=[])) is None


@pytest.mark.parametrize('has_ops', [False, True])
def test_tasks_that_nobody_needs_take_no_time(has_ops):
  emitted = tt.emitted()
  events = tt.run(emitted, tt.durations())
  nothing = [tt.backward(0, m) for m in range(4)]
  if has_ops:  # Which TensorFlow leaves out.
    events = _without(events, nothing)
  else:
    for task in nothing:
      del emitted.task_of_op[tt.op_name(task)]
  step = measured_step(emitted, events)
  for task in nothing:
    assert step.duration(task) == 0
    assert step.start[task] >= step.end[tt.backward(1, task.micro_batch)]


def test_recomputation_is_told_from_the_rest_of_a_backward_task():
  emitted = tt.emitted()
  of = tt.durations()
  plain = tt.step(emitted, of)
  task = tt.backward(1, 2)
  # Steps start 3 ms before their first task.
  before = plain.start[task] + 2.5 * MS
  again = tt.node(tt.recompute_name(task), before, before + 0.25 * MS)
  other = tt.node('conv/Conv2D', before, before + 0.1 * MS)
  step = tt.step(emitted, of, more=[again, other])
  assert step.recompute == pytest.approx({task: 0.25 * MS})
  assert step.start[task] == pytest.approx(plain.start[task] - 0.5 * MS)
  assert step.end[task] == pytest.approx(plain.end[task])


@pytest.mark.parametrize('ahead', [-40 * MS, 25 * MS])
def test_the_clock_of_another_machine_is_set_right(ahead):
  emitted = tt.emitted(workers=True)
  of = tt.durations()
  right = tt.step(emitted, of, transfer=0.5 * MS)
  step = tt.step(
    emitted,
    of,
    transfer=0.5 * MS,
    clock=lambda device: ahead if device == tt.cpu(0, 1) else 0.0,
  )
  worker = '/job:worker/replica:0/task:1'
  assert step.clock_shifts[worker] == pytest.approx(-ahead, abs=0.3 * MS)
  assert step.start == pytest.approx(right.start, abs=0.3 * MS)
  for (needed, task), arrived in step.arrival.items():
    assert step.start[task] >= arrived >= step.end[needed]


@pytest.mark.parametrize(
  ('least', 'shifts'),
  [
    # Both could be right.
    ({('a', 'b'): -0.1, ('b', 'a'): -0.1}, [0, 0, 0]),
    # In the middle of what is possible.
    ({('a', 'b'): 4.0, ('b', 'a'): -5.0}, [0, 4.5, 0]),
    # With messages one way, no more than it must.
    ({('a', 'b'): 0.75}, [0, 0.75, 0]),
    ({('b', 'a'): 0.75}, [0, -0.75, 0]),
    # Along the pipeline.
    ({('a', 'b'): 9.0, ('b', 'c'): 1.0}, [0, 9, 10]),
  ],
)
def test_clocks_are_aligned_by_what_must_hold(least, shifts):
  assert list(aligned('abc', least).values()) == pytest.approx(shifts)
