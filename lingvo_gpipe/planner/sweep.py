# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The best way to run a model for each number of devices and micro-batches."""

import json
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.cutting.units import format_bytes
from lingvo_gpipe.planner import recommend
from lingvo_gpipe.planner.forecast import Forecast, Speeds, forecast
from lingvo_gpipe.planner.workload import Workload

_GIB = 2**30


def sweep(
  workload: Workload,
  num_devices: Iterable[int],
  speeds: Speeds,
  device_memory: int | None,
  *,
  micro_batches: Sequence[int] = (),
  **chosen: Any,
) -> list[Forecast]:
  """For each number of devices and each M the best schedule and policy.

  Where none fits it is the one that needs least. More devices than layers are
  left out. `chosen` is for `recommend.settings`.
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
        device_memory=device_memory,
        **chosen,
      )
      here = [forecast(workload, way, speeds, device_memory) for way in ways]
      forecasts.append(recommend.best(here) or recommend.smallest(here))
  return forecasts


# For each column its title, '' if only JSON has it, its name in JSON, what of a
# Forecast it is, and that as text; None: as `Speeds` says.
_COLUMNS: tuple[tuple[str, str, str, Callable[[Any], str] | None], ...] = (
  ('devices', 'devices', 'setting.num_devices', str),
  ('K', 'cells', 'setting.num_cells', str),
  ('M', 'num_micro_batches', 'setting.num_micro_batches', str),
  ('examples', 'examples', 'examples', lambda n: str(n or '?')),
  ('schedule', 'schedule', 'setting.schedule', str),
  ('recompute', 'recompute', 'setting.recompute', str),
  ('step', 'step_time', 'step_time', None),
  ('speed-up', 'speedup', 'speedup', '{:.2f}'.format),
  ('bubble', 'bubble', 'bubble', '{:.1%}'.format),
  ('', 'recomputation', 'recomputation', None),
  (
    'imbalance',
    'imbalance',
    'partition.imbalance',
    lambda x: f'{float(x):.2f}',
  ),
  ('fullest device', 'fullest_device_bytes', 'fullest', format_bytes),
  ('fits', 'fits', 'fits', lambda fits: 'yes' if fits else 'no'),
)


def title(workload: Workload) -> str:
  return f'{workload.name}: the best way for each number of devices and M'


def as_json(forecasts: Sequence[Forecast], device_memory: int | None) -> str:
  """All figures as JSON: bytes, and times as `Speeds` says."""
  work = forecasts[0].workload
  content = {
    'model': work.name,
    'mini_batch_size': work.mini_batch_size,
    'device_memory': device_memory,
    'settings': [
      {name: operator.attrgetter(path)(one) for _, name, path, _ in _COLUMNS}
      for one in forecasts
    ],
  }
  # Exact numbers become floats.
  return json.dumps(content, indent=2, default=float)


def as_text(forecasts: Sequence[Forecast]) -> str:
  """A table for people; also Markdown."""
  shown = [column for column in _COLUMNS if column[0]]
  return text_table.table(
    [name for name, *_ in shown],
    [
      [
        (text or one.speeds.text)(operator.attrgetter(path)(one))
        for *_, path, text in shown
      ]
      for one in forecasts
    ],
  )


def draw(
  path: str, forecasts: Sequence[Forecast], device_memory: int | None
) -> None:
  """Writes a PNG file: speed-up and fullest device over M, a line a D."""
  import matplotlib
  from matplotlib import figure

  picture = figure.Figure((11.0, 4.6), dpi=120, layout='constrained')
  speed, memory = picture.subplots(1, 2)
  devices = sorted({one.setting.num_devices for one in forecasts})
  for number, k in enumerate(devices):
    line = [one for one in forecasts if one.setting.num_devices == k]
    place = 0.9 * number / max(len(devices) - 1, 1)
    colour = matplotlib.colormaps['viridis'](place)
    _line(speed, line, [one.speedup for one in line], colour, f'{k} devices')
    _line(memory, line, [one.fullest / _GIB for one in line], colour, None)
  numbers = sorted({one.setting.num_micro_batches for one in forecasts})
  for axes in (speed, memory):
    axes.set_xscale('log', base=2)
    axes.set_xticks(numbers, map(str, numbers))
    axes.minorticks_off()
    axes.set_xlabel('micro-batches M')
    axes.grid(alpha=0.3)
  speed.set_ylim(bottom=0)
  speed.set_ylabel('speed-up over one device')
  memory.set_yscale('log', base=2)
  memory.yaxis.set_major_formatter('{x:g}')
  memory.set_ylabel('fullest device, GiB')
  if device_memory is not None:
    memory.axhline(device_memory / _GIB, c='firebrick', ls='--', label='limit')
    memory.legend()
  speed.legend(title=None if device_memory is None else 'crosses: too large')
  picture.suptitle(title(forecasts[0].workload))
  picture.savefig(path, metadata={'Software': None})


def _line(
  axes: Any,
  line: Sequence[Forecast],
  values: Sequence[float],
  colour: Any,
  label: str | None,
) -> None:
  numbers = [one.setting.num_micro_batches for one in line]
  axes.plot(numbers, values, color=colour, label=label, linewidth=1.5)
  for one, number, value in zip(line, numbers, values, strict=True):
    axes.scatter(number, value, color=colour, marker='o' if one.fits else 'x')
