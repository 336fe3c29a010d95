# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The best way to run a model for each number of devices and micro-batches."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.cutting.units import format_bytes, format_seconds
from lingvo_gpipe.planner import recommend
from lingvo_gpipe.planner.forecast import Forecast, Speeds
from lingvo_gpipe.planner.workload import Workload

_FIELDS = (
  'devices',
  'cells',
  'num_micro_batches',
  'examples',
  'schedule',
  'recompute',
  'step_time',
  'speedup',
  'bubble',
  'imbalance',
  'fullest_device_bytes',
  'fits',
)


def sweep(
  workload: Workload,
  num_devices: Iterable[int],
  speeds: Speeds,
  device_memory: int | None,
  *,
  cells_per_device: int = 1,
  micro_batches: Sequence[int] = (),
  schedules: Sequence[str] = (),
  recompute: Sequence[str] = (),
) -> list[Forecast]:
  """For each number of devices and each M the best schedule and policy.

  Where none fits it is the one that needs least. More devices than layers are
  left out. The arguments are those of `recommend.settings` and `forecast`.
  """
  forecasts = []
  for devices in num_devices:
    if devices * cells_per_device > len(workload.layers):
      continue
    numbers = micro_batches or workload.choices(devices * cells_per_device)
    for m in numbers:
      ways = recommend.settings(
        workload,
        devices,
        cells_per_device,
        micro_batches=[m],
        schedules=schedules,
        recompute=recompute,
      )
      here = recommend.forecasts(workload, ways, speeds, device_memory)
      forecasts.append(
        recommend.best(here)
        or min(here, key=lambda one: (one.fullest, one.step_time))
      )
  return forecasts


def records(
  workload: Workload, forecasts: Iterable[Forecast]
) -> list[dict[str, Any]]:
  """All figures, for JSON and CSV; bytes, and times as `Speeds` says."""
  return [
    dict(
      zip(
        _FIELDS,
        (
          one.setting.num_devices,
          one.setting.num_cells,
          one.setting.num_micro_batches,
          workload.micro_batch(one.setting.num_micro_batches),
          one.setting.schedule,
          one.setting.recompute,
          one.step_time,
          one.speedup,
          one.bubble,
          float(one.partition.imbalance),
          one.fullest,
          one.fits,
        ),
        strict=True,
      )
    )
    for one in forecasts
  ]


def as_json(
  workload: Workload, forecasts: Sequence[Forecast], device_memory: int | None
) -> str:
  """All figures as JSON."""
  return json.dumps(
    {
      'model': workload.name,
      'mini_batch_size': workload.mini_batch_size,
      'device_memory': device_memory,
      'settings': records(workload, forecasts),
    },
    indent=2,
  )


def as_csv(workload: Workload, forecasts: Sequence[Forecast]) -> str:
  """All figures as CSV, with a header."""
  text = io.StringIO()
  writer = csv.DictWriter(text, _FIELDS, lineterminator='\n')
  writer.writeheader()
  writer.writerows(records(workload, forecasts))
  return text.getvalue()


def as_text(
  workload: Workload, forecasts: Sequence[Forecast], *, absolute: bool
) -> str:
  """A table for people; also Markdown."""
  header = ['K', 'M', 'examples', 'schedule', 'recompute', 'step', 'speed-up']
  header += ['bubble', 'imbalance', 'fullest device', 'fits']
  rows = []
  for one in forecasts:
    setting = one.setting
    examples = workload.micro_batch(setting.num_micro_batches)
    time = one.step_time
    rows.append(
      [
        str(setting.num_cells),
        str(setting.num_micro_batches),
        str(examples or '?'),
        setting.schedule,
        setting.recompute,
        format_seconds(time) if absolute else f'{time:.3f}',
        f'{one.speedup:.2f}',
        f'{one.bubble:.1%}',
        f'{float(one.partition.imbalance):.2f}',
        format_bytes(one.fullest),
        'yes' if one.fits else 'no',
      ]
    )
  return text_table.table(header, rows)
