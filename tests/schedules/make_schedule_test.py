# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Properties of every schedule, over many sizes and arrangements of cells."""

import itertools
import random
from fractions import Fraction

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import (
  PLAIN_NAMES,
  RECOMPUTE_POLICIES,
  Task,
  TaskKind,
  make_schedule,
)
from lingvo_gpipe.schedules.slot_filling import in_flight_limits

F, B = TaskKind.FORWARD, TaskKind.BACKWARD

all_names = pytest.mark.parametrize('name', PLAIN_NAMES)


def _regular():
  """(cell_devices, M): in turn, in blocks, and backwards."""
  for num_cells, num_micro_batches in itertools.product(
    (1, 2, 3, 4, 8), (1, 2, 3, 8, 13)
  ):
    for num_devices in {1, 2, 3, num_cells}:
      yield [k % num_devices for k in range(num_cells)], num_micro_batches
      yield (
        [k * num_devices // num_cells for k in range(num_cells)],
        num_micro_batches,
      )
    yield list(reversed(range(num_cells))), num_micro_batches


def _random():
  rng = random.Random(1)
  for _ in range(200):
    num_devices = rng.randint(1, 6)
    yield (
      [rng.randrange(num_devices) for _ in range(rng.randint(1, 12))],
      rng.randint(1, 14),
    )


REGULAR = list(_regular())
ARRANGEMENTS = [*REGULAR, *_random()]


@all_names
@pytest.mark.parametrize('trained', ['all', 'some', 'none'])
def test_each_task_runs_once_and_none_before_what_it_needs(name, trained):
  for i, (devices, num_micro_batches) in enumerate(ARRANGEMENTS):
    last = len(devices) - 1
    first = {'all': 0, 'some': i % len(devices), 'none': last + 1}[trained]
    schedule = make_schedule(
      name, devices, num_micro_batches, first_backward=first
    )
    schedules.validate(schedule)
    assert schedule.name == ('forward_only' if trained == 'none' else name)
    assert schedule.num_devices == max(devices) + 1
    order = schedule.in_order()
    every = [
      Task(kind, k, m)
      for kind, start in ((F, 0), (B, first))
      for k in range(start, len(devices))
      for m in range(num_micro_batches)
    ]
    assert len(order) == len(every) and set(order) == set(every)
    place = {task: i for i, task in enumerate(order)}
    for device, tasks in enumerate(schedule.device_tasks):
      assert {devices[task.cell] for task in tasks} <= {device}
      assert list(tasks) == sorted(tasks, key=place.get)
    for kind, k, m in ((t.kind, t.cell, t.micro_batch) for t in order):
      here = place[Task(kind, k, m)]
      assert m == 0 or place[Task(kind, k, m - 1)] < here
      if kind == F:
        assert k == 0 or place[Task(F, k - 1, m)] < here
      else:
        assert place[Task(F, k, m)] < here
        assert k == last or place[Task(B, k + 1, m)] < here


def _limits(name, devices, num_micro_batches):
  if name == 'gpipe':
    return [num_micro_batches] * len(devices)
  return in_flight_limits(devices, num_micro_batches)


@all_names
def test_no_cell_stashes_more_than_its_limit_and_some_reach_it(name):
  for devices, num_micro_batches in ARRANGEMENTS:
    limits = _limits(name, devices, num_micro_batches)
    schedule = make_schedule(name, devices, num_micro_batches)
    stash = schedules.simulate(schedule).peak_stash
    assert all(1 <= s <= most for s, most in zip(stash, limits, strict=True))
    if devices == list(range(len(devices))) or name == 'gpipe':
      assert stash == tuple(limits)


def test_cells_that_follow_each_other_on_a_device_count_as_one():
  assert in_flight_limits([0, 0, 1, 1], 8) == [2, 2, 1, 1]
  assert in_flight_limits([0, 1, 0, 1], 8) == [4, 3, 2, 1]
  assert in_flight_limits([0, 0, 0], 8) == [1, 1, 1]


def _textbook_row(name, num_cells, num_micro_batches, k):
  """Warm-up forwards, then pairs of forward and backward, then backwards."""
  warm_up = num_cells - 1 - k if name == '1f1b' else num_micro_batches
  warm_up = min(num_micro_batches, warm_up)
  row = [Task(F, k, m) for m in range(warm_up)]
  for m in range(warm_up, num_micro_batches):
    row += [Task(F, k, m), Task(B, k, m - warm_up)]
  left = range(num_micro_batches - warm_up, num_micro_batches)
  return row + [Task(B, k, m) for m in left]


@all_names
@pytest.mark.parametrize('backward', [1, 2, Fraction(1, 3)])
def test_one_cell_a_device_gives_the_textbook_schedule(name, backward):
  for num_cells, num_micro_batches in itertools.product(
    (*range(1, 9), 16), (1, 2, 3, 4, 8, 16, 33)
  ):
    schedule = make_schedule(name, range(num_cells), num_micro_batches)
    for k, tasks in enumerate(schedule.device_tasks):
      row = _textbook_row(name, num_cells, num_micro_batches, k)
      assert list(tasks) == row
    timeline = schedules.simulate(
      schedule, lambda task: 1 if task.kind == F else backward
    )
    total = num_micro_batches + num_cells - 1
    assert timeline.step_time == (1 + backward) * total
    assert timeline.bubble == Fraction(num_cells - 1, total)


@all_names
def test_evaluation_runs_forwards_alone_under_any_name(name):
  schedule = make_schedule(name, range(3), 4, forward_only=True)
  assert schedule == make_schedule(name, range(3), 4, first_backward=3)
  assert schedule.forward_only
  timeline = schedules.simulate(schedule)
  assert timeline.step_time == 4 + 3 - 1
  assert timeline.peak_stash == (0, 0, 0)


@all_names
def test_untrained_cells_stash_and_recompute_nothing_and_cost_no_time(name):
  for i, (devices, num_micro_batches) in enumerate(REGULAR):
    first = i % len(devices)
    whole = make_schedule(name, devices, num_micro_batches)
    schedule = make_schedule(
      name, devices, num_micro_batches, first_backward=first
    )
    timeline = schedules.simulate(schedule)
    assert timeline.step_time <= schedules.simulate(whole).step_time
    peaks = timeline.peak_stash
    assert not any(peaks[:first]) and all(peaks[first:])
    limits = _limits(name, devices, num_micro_batches)
    assert all(p <= limit for p, limit in zip(peaks, limits, strict=True))
    for policy in RECOMPUTE_POLICIES:
      again = schedules.recomputed(schedule, policy)
      assert not any(again[:first])
      if len(set(devices)) == len(devices):
        assert again[first:-1] == schedules.recomputed(whole, policy)[first:-1]


@pytest.mark.parametrize(
  'arguments, first_backward, words',
  [
    (('zigzag', [0], 1), 0, r"'zigzag'.*'gpipe', '1f1b'"),
    (('gpipe', [], 1), 0, r'cell_devices is \[\]'),
    (('gpipe', [0, -1], 1), 0, r'\[0, -1\]'),
    (('1f1b', [0], 0), 0, 'num_micro_batches is 0'),
    (('gpipe', [0, 1], 3), -1, 'first_backward is -1; .* 2'),
    (('gpipe', [0, 1], 3), 3, 'first_backward is 3; .* 2'),
  ],
)
def test_bad_arguments_are_named(arguments, first_backward, words):
  with pytest.raises(ValueError, match=words):
    make_schedule(*arguments, first_backward=first_backward)
