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
from typing import Any

from lingvo_gpipe.schedules.task import Schedule, ScheduleError, Task, TaskKind

PREFIX = 'file:'

_IN_JSON = re.compile(r'(?P<kind>[FBW])(?P<cell>\d+)\.(?P<micro_batch>\d+)')
_IN_CSV = re.compile(r'(?P<cell>\d+)(?P<kind>[FIBW])(?P<micro_batch>\d+)')


def to_json(schedule: Schedule) -> str:
  fields = {
    'name': schedule.name,
    'num_micro_batches': schedule.num_micro_batches,
    'cell_devices': list(schedule.cell_devices),
    'device_tasks': [list(map(str, row)) for row in schedule.device_tasks],
    'first_backward': schedule.first_backward,
  }
  lines = [f'  {json.dumps(k)}: {json.dumps(v)}' for k, v in fields.items()]
  return '{\n' + ',\n'.join(lines) + '\n}\n'


def read_named(name: str) -> Schedule:
  """Reads the schedule 'file:PATH'."""
  return read(name.removeprefix(PREFIX))


def read(path: str) -> Schedule:
  """Reads a .json or .csv file: a schedule that `validate` may refuse.

  ScheduleError if there is no such file, or it is no schedule.
  """
  if not path.endswith(('.json', '.csv')):
    raise ScheduleError(
      f'{PREFIX}{path}: give {PREFIX}PATH of a schedule: a .json file, or a '
      '.csv file as PyTorch writes it.'
    )
  try:
    with open(path, encoding='utf-8', newline='') as file:
      text = file.read()
  except (OSError, UnicodeDecodeError) as error:
    raise ScheduleError(f'{path}: it cannot be read: {error}.') from error
  return (_from_csv if path.endswith('.csv') else from_json)(path, text)


def from_json(path: str, text: str) -> Schedule:
  """A schedule from what `to_json` returned; errors name the path."""
  try:
    fields: dict[str, Any] = json.loads(text)
    return Schedule(
      str(fields.get('name', path)),
      operator.index(fields['num_micro_batches']),
      tuple(map(operator.index, fields['cell_devices'])),
      _rows(path, fields['device_tasks'], _IN_JSON, 'F0.1'),
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
  rows = _rows(path, places, _IN_CSV, '0F1')
  devices = {
    task.cell: device for device, row in enumerate(rows) for task in row
  }
  missing = set(range(max(devices, default=-1) + 1)) - set(devices)
  if missing or not devices:
    raise ScheduleError(
      f'{path}: there are no tasks of cells {sorted(missing) or "at all"}.'
    )
  return Schedule(
    path,
    1 + max(task.micro_batch for row in rows for task in row),
    tuple(devices[cell] for cell in range(len(devices))),
    rows,
  )


def _rows(
  path: str, texts: list[list[str]], pattern: re.Pattern[str], example: str
) -> tuple[tuple[Task, ...], ...]:
  """The tasks of each device; in a CSV file a place may be empty."""
  rows: list[list[Task]] = [[] for _ in texts]
  for device, row in enumerate(texts):
    for place, text in enumerate(row):
      match = pattern.fullmatch(text)
      if match:
        kind = TaskKind(match['kind'].replace('I', 'B'))
        task = Task(kind, int(match['cell']), int(match['micro_batch']))
        rows[device].append(task)
      elif text or pattern is _IN_JSON:
        raise ScheduleError(
          f'{path}: {text!r}, place {place} of device {device}, is no task '
          f'such as {example}.'
        )
  return tuple(map(tuple, rows))
