# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws a traced step: measured, simulated, memory, on one time axis.

The figure is a PNG file, and the SVG in a page that loads nothing else. It
needs matplotlib, which `pip install 'lingvo_gpipe[pictures]'` brings.
"""

import html
import io
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from lingvo_gpipe.schedules import Task, TaskKind, Timeline
from lingvo_gpipe.tracing.measured_step import MeasuredStep, TracedPipeline

# Colours that differ in brightness too.
KINDS = {
  TaskKind.FORWARD: ('forward', '#5B9BD5'),
  TaskKind.BACKWARD: ('backward', '#E8833A'),
  TaskKind.WEIGHT_GRADIENT: ('weight gradient', '#63A563'),
}
RECOMPUTE = 'recomputation', '#F7C873'
_WIDTH = 12.0  # Inches.
_ROW = 0.52  # Inches of a device's row; less where there are many.
_LEAST_ROW = 0.16
_MOST_HEIGHT = 9.0  # Inches of the rows of both timelines.
_MARGIN = 1.9  # Inches of titles, axis and legend.
_MEMORY = 1.6  # Inches of the memory.
_BAR = 0.78  # Of a row.
_CHARACTER = 0.085  # Inches that a label's character needs.

_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Trace of $model</title>
<style>
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5em; color: #222; }
h1 { font-size: 1.3em; }
figure { overflow: auto; margin: 0; }
svg { width: 100%; height: auto; }
svg [id^=text] { pointer-events: none; }
pre { background: #f6f6f6; padding: .8em; white-space: pre-wrap; }
</style></head><body>
<h1>Trace of $model</h1>
<p>Zoom: <input type="range" min="100" max="1500" value="100" oninput=
"document.querySelector('svg').style.width = this.value + '%'">
A bar tells its times where the mouse rests on it.</p>
<figure>$svg</figure>
<pre>$text</pre></body></html>
""")


def draw(traced: TracedPipeline) -> Any:
  """The step of median length, as a matplotlib figure."""
  from matplotlib import figure, ticker

  step = traced.shown
  schedule, simulated = step.schedule, step.simulated
  num_rows = schedule.num_devices
  rows = num_rows * max(_LEAST_ROW, min(_ROW, _MOST_HEIGHT / 2 / num_rows))
  heights = [rows, rows, *([_MEMORY] if step.memory else [])]
  drawn = figure.Figure(
    (_WIDTH, sum(heights) + _MARGIN), dpi=120, layout='constrained'
  )
  axes = drawn.subplots(len(heights), sharex=True, height_ratios=heights)
  length = float(simulated.step_time)
  axes[0].set_xlim(0, max(step.length, length))
  time = ticker.EngFormatter('s', places=1)
  _draw_timeline(axes[0], step, step, [p.task for p in step.critical_path])
  _label(
    axes[0],
    f'Measured, step {traced.shown_step}: {time(step.length)}, bubble '
    f'{step.bubble:.1%}',
    _row_labels(step, step.utilisation),
  )
  _draw_timeline(axes[1], step, simulated, simulated.critical_path)
  _label(
    axes[1],
    f'Simulated with the durations above: {time(length)}, bubble '
    f'{float(simulated.bubble):.1%}',
    _row_labels(step, [float(b) / length for b in simulated.device_busy]),
  )
  if step.memory:
    _draw_memory(axes[2], step)
  axes[-1].set_xlabel('time after the first task starts')
  axes[-1].xaxis.set_major_formatter(ticker.EngFormatter('s'))
  drawn.suptitle(
    f'{traced.model}: {schedule.num_cells} cells, '
    f'{schedule.num_micro_batches} micro-batches, schedule {schedule.name}, '
    f'recompute {traced.recompute}',
    fontsize=11,
  )
  _draw_legend(drawn, step)
  return drawn


def png(drawn: Any) -> bytes:
  """What `draw` has drawn as a PNG file."""
  stream = io.BytesIO()
  drawn.savefig(stream, format='png')
  return stream.getvalue()


def page(traced: TracedPipeline, drawn: Any, text: str) -> str:
  """The same as an HTML page, with a report below."""
  stream = io.StringIO()
  drawn.savefig(stream, format='svg', metadata={'Date': None})
  svg = stream.getvalue()
  # What a bar is shows as its tooltip.
  svg = re.sub(r'<g id="task: (.*?)">', r'<g><title>\1</title>', svg)
  return _PAGE.substitute(
    model=html.escape(traced.model),
    svg=svg[svg.index('<svg') :],
    text=html.escape(text),
  )


def _draw_timeline(
  axes: Any,
  step: MeasuredStep,
  shown: MeasuredStep | Timeline,
  critical: Sequence[Task],
) -> None:
  """Draws `shown`, which has the tasks of `step`."""
  from matplotlib import ticker

  start = {task: float(time) for task, time in shown.start.items()}
  widths = {task: float(shown.end[task]) - start[task] for task in start}
  widths = {task: width for task, width in widths.items() if width > 0}
  time = ticker.EngFormatter('s', places=3)

  def bars(parts: Mapping[Task, float], **style: Any) -> None:
    drawn = axes.barh(
      [step.device_of(task) for task in parts],
      list(parts.values()),
      _BAR,
      [start[task] for task in parts],
      **style,
    )
    for task, patch in zip(parts, drawn, strict=True):
      again = step.recompute.get(task)
      patch.set_gid(
        f'task: {task}: {time(widths[task])} from {time(start[task])} on'
        + (f', of which {time(again)} recomputation' if again else '')
      )

  bars(widths, color=[KINDS[task.kind][1] for task in widths])
  bars(step.recompute, color=RECOMPUTE[1])
  bars(widths, fill=False, edgecolor='white', lw=0.6)
  path = {task: widths[task] for task in critical if task in widths}
  bars(path, fill=False, edgecolor='black', lw=1.3)
  inches = 0.82 * _WIDTH / axes.get_xlim()[1]
  for task, width in widths.items():
    label = _bar_label(step, task)
    if inches * width > _CHARACTER * len(label):
      at = start[task] + width / 2, step.device_of(task)
      axes.text(*at, label, ha='center', va='center', fontsize=8)


def _bar_label(step: MeasuredStep, task: Task) -> str:
  """The micro-batch, after the cell where a device has several."""
  several = len(step.cells_of(step.device_of(task))) > 1
  return f'{task.cell}.{task.micro_batch}' if several else f'{task.micro_batch}'


def _row_labels(step: MeasuredStep, busy: Sequence[float]) -> list[str]:
  """The devices, each with the share of its time in tasks."""
  labels = []
  for device, share in enumerate(busy):
    cells = step.cells_of(device)
    numbers = f'cell{"s" * (len(cells) > 1)} {", ".join(map(str, cells))}'
    labels.append(f'device {device}\n{numbers}: {share:.0%} busy')
  return labels


def _label(axes: Any, title: str, rows: Sequence[str] = ()) -> None:
  axes.set_title(title, loc='left', fontsize=10)
  axes.grid(axis='x', alpha=0.35)
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)
  if rows:
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _draw_memory(axes: Any, step: MeasuredStep) -> None:
  """Draws a line for each process."""
  first, last = axes.get_xlim()
  for process, samples in sorted(step.memory.items()):
    shown = [sample for sample in samples if first <= sample[0] <= last]
    sizes = [num_bytes / 2**20 for _, num_bytes in shown]
    axes.plot([time for time, _ in shown], sizes, lw=1.2, label=process)
  axes.legend(fontsize=7, frameon=False)
  _label(axes, 'Measured: resident memory of the processes [MiB]')


def _draw_legend(drawn: Any, step: MeasuredStep) -> None:
  from matplotlib.patches import Patch

  ran = {task.kind for task in step.start}
  kinds = [text for kind, text in KINDS.items() if kind in ran]
  if step.recompute:
    kinds.append(RECOMPUTE)
  handles = [Patch(facecolor=colour, label=what) for what, colour in kinds]
  critical = Patch(fill=False, lw=1.3, label='critical path')
  drawn.legend(
    handles=[*handles, critical],
    loc='outside lower center',
    ncols=5,
    frameon=False,
  )
