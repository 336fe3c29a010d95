# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schedules in files, so that anyone can bring one.

A JSON file has what a `Schedule` has, tasks as they are drawn:

```
  {"name": "mine", "num_micro_batches": 2, "cell_devices": [0, 1],
   "device_tasks": [["F0.0", "F0.1", "B0.0", "B0.1"],
                    ["F1.0", "B1.0", "F1.1", "B1.1"]]}
```

A CSV file is read as PyTorch writes its pipeline schedules: a row for each
device, with tasks such as 0F1 (cell, kind, micro-batch) and empty places where
the device waits. Its B is a whole backward pass; I and W are one in two.
"""

import csv
import json
import operator
import re
from collections.abc import Sequence
from typing import Any

from lingvo_gpipe.schedules.grid import draw
from lingvo_gpipe.schedules.task import (
  Schedule,
  ScheduleError,
  Task,
  TaskKind,
)

PREFIX = 'file:'

_IN_JSON = re.compile(r'(?P<kind>[FBW])(?P<cell>\d+)\.(?P<micro_batch>\d+)')
_IN_CSV = re.compile(r'(?P<cell>\d+)(?P<kind>[FIBW])(?P<micro_batch>\d+)')


def to_json(schedule: Schedule) -> str:
  """A schedule as the text of a file that `read` reads."""
  fields = {
    'name': schedule.name,
    'num_micro_batches': schedule.num_micro_batches,
    'cell_devices': list(schedule.cell_devices),
    'device_tasks': [
      [str(task) for task in tasks] for tasks in schedule.device_tasks
    ],
    'first_backward': schedule.first_backward,
  }
  lines = [f'  {json.dumps(k)}: {json.dumps(v)}' for k, v in fields.items()]
  return '{\n' + ',\n'.join(lines) + '\n}\n'


def read(path: str) -> Schedule:
  """Reads a schedule; `validate` checks whether it can run.

  Args:
    path: A file that ends with .json or .csv.

  Raises:
    ScheduleError: There is no such file, or it is no schedule.
  """
  if not path:
    raise ScheduleError(
      f'{PREFIX!r} names no file; give {PREFIX}PATH, such as {PREFIX}a.json.'
    )
  try:
    with open(path, encoding='utf-8', newline='') as file:
      text = file.read()
  except (OSError, UnicodeDecodeError) as error:
    raise ScheduleError(f'{path}: it cannot be read: {error}.') from error
  if path.endswith('.csv'):
    return _from_csv(path, text)
  if path.endswith('.json'):
    return from_json(path, text)
  raise ScheduleError(
    f'{path}: a schedule is a .json file, or a .csv file as PyTorch writes it.'
  )


def from_json(path: str, text: str) -> Schedule:
  """A schedule from what `to_json` returned; errors name the path."""
  try:
    fields: dict[str, Any] = json.loads(text)
    rows = fields['device_tasks']
    return Schedule(
      str(fields.get('name', path)),
      operator.index(fields['num_micro_batches']),
      tuple(map(operator.index, fields['cell_devices'])),
      tuple(map(tuple, _tasks(path, _IN_JSON, rows))),
      operator.index(fields.get('first_backward', 0)),
    )
  except ScheduleError:
    raise
  except KeyError as error:
    raise ScheduleError(f'{path}: it has no {error}.') from error
  except (ValueError, TypeError, AttributeError) as error:
    raise ScheduleError(f'{path}: it is no schedule: {error}.') from error


def _from_csv(path: str, text: str) -> Schedule:
  places = [
    [place.strip() for place in row]
    for row in csv.reader(text.splitlines())
    if any(place.strip() for place in row)
  ]
  rows = _tasks(path, _IN_CSV, places)
  devices = {
    task.cell: device for device, tasks in enumerate(rows) for task in tasks
  }
  missing = set(range(max(devices, default=-1) + 1)) - set(devices)
  if missing or not devices:
    raise ScheduleError(
      f'{path}: there are no tasks of cells {sorted(missing) or "at all"}.'
    )
  return Schedule(
    path,
    1 + max(task.micro_batch for tasks in rows for task in tasks),
    tuple(devices[cell] for cell in range(len(devices))),
    tuple(map(tuple, rows)),
  )


def _tasks(
  path: str, pattern: re.Pattern[str], rows: Sequence[Sequence[str]]
) -> list[list[Task]]:
  """The tasks of each device; in a CSV file a place may be empty.

  Raises:
    ScheduleError: A text is no task; it is marked '!' in a grid of all.
  """
  may_be_empty = pattern is _IN_CSV
  for device, texts in enumerate(rows):
    for place, text in enumerate(texts):
      if not (pattern.fullmatch(text) or (may_be_empty and not text)):
        example = '0F1' if may_be_empty else 'F0.1'
        marked = [list(row) for row in rows]
        marked[device][place] = f'!{text}'
        labels = [f'device {d}' for d in range(len(rows))]
        raise ScheduleError(
          f'{path}: {text!r}, place {place} of device {device}, is no task '
          f'such as {example}. It is marked !:\n'
          + draw(labels, marked, focus=place)
        )
  return [[_task(pattern, text) for text in texts if text] for texts in rows]


def _task(pattern: re.Pattern[str], text: str) -> Task:
  match = pattern.fullmatch(text)
  assert match
  kind = match['kind'].replace('I', 'B')
  return Task(TaskKind(kind), int(match['cell']), int(match['micro_batch']))
