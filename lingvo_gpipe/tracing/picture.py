# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws a traced step: measured, simulated, memory, on one time axis."""

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
# Inches: of the figure, of a device's row, of titles, axis and legend, of the
# memory, and of a label's character.
_WIDTH = 12.0
_LEAST_ROW, _ROW = 0.16, 0.52
_MOST_ROWS = 4.5  # Of all devices, unless they are many.
_MARGIN = 1.9
_MEMORY = 1.6
_CHARACTER = 0.085

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
  rows = max(_LEAST_ROW * num_rows, min(_ROW * num_rows, _MOST_ROWS))
  heights = [rows, rows, *([_MEMORY] if step.memory else [])]
  drawn = figure.Figure(
    (_WIDTH, sum(heights) + _MARGIN), dpi=120, layout='constrained'
  )
  axes = drawn.subplots(len(heights), sharex=True, height_ratios=heights)
  length = float(simulated.step_time)
  axes[0].set_xlim(0, max(step.length, length))
  time = ticker.EngFormatter('s', places=1)
  _draw_timeline(axes[0], step, step, [p.task for p in step.critical_path])
  _label_timeline(
    axes[0],
    f'Measured, step {traced.shown_step}: {time(step.length)}, bubble '
    f'{step.bubble:.1%}',
    step,
    step.utilisation,
  )
  _draw_timeline(axes[1], step, simulated, simulated.critical_path)
  _label_timeline(
    axes[1],
    f'Simulated with the durations above: {time(length)}, bubble '
    f'{float(simulated.bubble):.1%}',
    step,
    [float(busy) / length for busy in simulated.device_busy],
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
  stream = io.BytesIO()
  drawn.savefig(stream, format='png')
  return stream.getvalue()


def page(traced: TracedPipeline, drawn: Any, text: str) -> str:
  """A figure as an HTML page, with a report below."""
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
  from matplotlib import ticker

  start = {task: float(time) for task, time in shown.start.items()}
  widths = {task: float(shown.end[task]) - start[task] for task in start}
  widths = {task: width for task, width in widths.items() if width > 0}
  time = ticker.EngFormatter('s', places=3)

  def bars(parts: Mapping[Task, float], **style: Any) -> None:
    drawn = axes.barh(
      [step.device_of(task) for task in parts],
      list(parts.values()),
      0.78,  # Of a row.
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
    several = len(step.cells_of(step.device_of(task))) > 1
    label = f'{task.cell}.' * several + f'{task.micro_batch}'
    if inches * width > _CHARACTER * len(label):
      at = start[task] + width / 2, step.device_of(task)
      axes.text(*at, label, ha='center', va='center', fontsize=8)


def _label_timeline(
  axes: Any, title: str, step: MeasuredStep, busy: Sequence[float]
) -> None:
  _label(axes, title)
  labels = []
  for device, share in enumerate(busy):
    cells = ', '.join(map(str, step.cells_of(device)))
    labels.append(f'device {device}\ncell {cells}: {share:.0%} busy')
  axes.set_yticks(range(len(labels)), labels, fontsize=8)
  axes.set_ylim(len(labels) - 0.5, -0.5)


def _label(axes: Any, title: str) -> None:
  axes.set_title(title, loc='left', fontsize=10)
  axes.grid(axis='x', alpha=0.35)
  axes.set_axisbelow(True)
  axes.spines[['top', 'right']].set_visible(False)


def _draw_memory(axes: Any, step: MeasuredStep) -> None:
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
