# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The best way to run a model for each number of devices and micro-batches."""

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.cutting.units import format_bytes
from lingvo_gpipe.planner import recommend
from lingvo_gpipe.planner.forecast import Forecast, Speeds
from lingvo_gpipe.planner.report import time_text
from lingvo_gpipe.planner.workload import Workload


def sweep(
  workload: Workload,
  num_devices: Iterable[int],
  speeds: Speeds,
  device_memory: int | None,
  *,
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
    if devices > len(workload.layers):
      continue
    for m in micro_batches or workload.choices(devices):
      ways = recommend.settings(
        workload,
        devices,
        micro_batches=[m],
        schedules=schedules,
        recompute=recompute,
        device_memory=device_memory,
      )
      here = recommend.forecasts(workload, ways, speeds, device_memory)
      forecasts.append(recommend.best(here) or recommend.smallest(here))
  return forecasts


def records(
  workload: Workload, forecasts: Iterable[Forecast]
) -> list[dict[str, Any]]:
  """All figures, for JSON and CSV; bytes, and times as `Speeds` says."""
  return [
    {
      'devices': one.setting.num_devices,
      'cells': one.setting.num_cells,
      'num_micro_batches': one.setting.num_micro_batches,
      'examples': workload.micro_batch(one.setting.num_micro_batches),
      'schedule': one.setting.schedule,
      'recompute': one.setting.recompute,
      'step_time': one.step_time,
      'speedup': one.speedup,
      'bubble': one.bubble,
      'recomputation': one.recomputation,
      'imbalance': float(one.partition.imbalance),
      'fullest_device_bytes': one.fullest,
      'fits': one.fits,
    }
    for one in forecasts
  ]


def as_json(
  workload: Workload, forecasts: Sequence[Forecast], device_memory: int | None
) -> str:
  """All figures as JSON."""
  content = {
    'model': workload.name,
    'mini_batch_size': workload.mini_batch_size,
    'device_memory': device_memory,
    'settings': records(workload, forecasts),
  }
  return json.dumps(content, indent=2)


def as_csv(workload: Workload, forecasts: Sequence[Forecast]) -> str:
  """All figures as CSV, with a header."""
  rows = records(workload, forecasts)
  text = io.StringIO()
  writer = csv.DictWriter(text, rows[0] if rows else (), lineterminator='\n')
  writer.writeheader()
  writer.writerows(rows)
  return text.getvalue()


def as_text(
  workload: Workload, forecasts: Sequence[Forecast], *, absolute: bool
) -> str:
  """A table for people; also Markdown."""
  header = ['devices', 'K', 'M', 'examples', 'schedule', 'recompute', 'step']
  header += ['speed-up', 'bubble', 'imbalance', 'fullest device', 'fits']
  rows = [
    [
      str(row['devices']),
      str(row['cells']),
      str(row['num_micro_batches']),
      str(row['examples'] or '?'),
      row['schedule'],
      row['recompute'],
      time_text(row['step_time'], absolute=absolute),
      f'{row["speedup"]:.2f}',
      f'{row["bubble"]:.1%}',
      f'{row["imbalance"]:.2f}',
      format_bytes(row['fullest_device_bytes']),
      'yes' if row['fits'] else 'no',
    ]
    for row in records(workload, forecasts)
  ]
  return text_table.table(header, rows)
