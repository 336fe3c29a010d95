# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Users bring schedules of their own, by name."""

import dataclasses
import re

import hypothesis
import pytest
from hypothesis import strategies as st

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import ScheduleError, registry


@pytest.fixture(autouse=True)
def _forget(monkeypatch):
  monkeypatch.setattr(registry, 'registered', {})


def _mine(cell_devices, num_micro_batches):
  return schedules.make_schedule('zb_h1', cell_devices, num_micro_batches)


def _returning(change):
  return lambda devices, m: change(_mine(devices, m))


def test_a_registered_schedule_is_one_as_others():
  schedules.register_schedule('mine', _mine)
  schedules.register_schedule('mine', _mine)  # As where a module is imported.
  schedules.check_name('mine')
  assert schedules.schedule_names() == (*schedules.SCHEDULE_NAMES, 'mine')
  made = schedules.make_schedule('mine', range(3), 4, first_backward=1)
  named = schedules.make_schedule('zb_h1', range(3), 4, first_backward=1)
  assert made == dataclasses.replace(named, name='mine')
  assert schedules.count('mine', range(3), 4, 'always') == (
    schedules.count('zb_h1', range(3), 4, 'always')
  )


@pytest.mark.parametrize(
  ('like', 'cells', 'places'),
  [
    ('1f1b', 1, (0, 1, 2)),
    ('zb_v', 2, (0, 1, 2, 2, 1, 0)),
    ('interleaved_1f1b', 2, (0, 1, 2, 0, 1, 2)),
  ],
)
def test_its_cells_lie_on_devices_as_those_of_another_one(like, cells, places):
  schedules.register_schedule('mine', _mine, like=like)
  assert schedules.cells_per_device('mine') == cells
  assert schedules.place('mine', 3 * cells, 3) == places
  assert schedules.make_schedule('mine', places, 2).cell_devices == places


@pytest.mark.parametrize('name', ['', 'a b', 'file:x', None])
def test_a_bad_name_is_refused(name):
  with pytest.raises(ValueError, match=re.escape(f'name is {name!r}; use let')):
    schedules.register_schedule(name, _mine)


@pytest.mark.parametrize('name', ['gpipe', 'auto', 'forward_only', 'mine'])
def test_a_name_of_another_builder_is_taken(name):
  schedules.register_schedule('mine', _mine)
  with pytest.raises(ValueError, match=rf"'{name}'; taken names are .* mine"):
    schedules.register_schedule(name, lambda devices, m: None)


@pytest.mark.parametrize(
  ('builder', 'like', 'words'),
  [
    (None, '1f1b', "builder of 'mine' is None; it must be a function of"),
    (_mine, 'zigzag', "`like` 'zigzag'; it must be one of"),
  ],
)
def test_what_is_no_builder_is_refused(builder, like, words):
  with pytest.raises(ValueError, match=words):
    schedules.register_schedule('mine', builder, like=like)


@pytest.mark.parametrize(
  ('builder', 'words'),
  [
    (lambda devices, m: None, r'builder .* returned None; it must return a'),
    (lambda devices, m: _mine(devices, 3), 'micro-batches 3, but .* has 2'),
    (
      _returning(lambda s: dataclasses.replace(s, device_tasks=(('F0.0',),))),
      'must return a lingvo_gpipe.schedules.Schedule of Tasks',
    ),
    (
      _returning(
        lambda s: dataclasses.replace(
          s, device_tasks=(s.device_tasks[0][::-1], *s.device_tasks[1:])
        )
      ),
      r"Schedule 'mine' is not valid(.|\n)*device 0 +W0\.1",
    ),
  ],
)
def test_a_builder_of_what_cannot_run_is_named(builder, words):
  schedules.register_schedule('mine', builder)
  with pytest.raises(ScheduleError, match=words):
    schedules.make_schedule('mine', (0, 1), 2)


@hypothesis.given(st.data())
def test_no_order_of_tasks_is_emitted_that_cannot_run(data):
  """Any order of the tasks of each device: an error, or it runs to its end."""
  named = schedules.make_schedule('zb_h1', (0, 1), 2)
  rows = tuple(
    tuple(data.draw(st.permutations(row))) for row in named.device_tasks
  )
  shuffled = dataclasses.replace(named, device_tasks=rows)
  registry.registered.clear()
  schedules.register_schedule('mine', lambda devices, m: shuffled)
  try:
    made = schedules.make_schedule('mine', (0, 1), 2)
  except ScheduleError as error:
    assert "Schedule 'mine'" in str(error) and '!' in str(error)
  else:
    assert made.device_tasks == rows
    assert len(made.in_order()) == sum(map(len, rows))
