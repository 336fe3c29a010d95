# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A page that shows a traced pipeline, in one file that loads nothing else.

Bars are placed in per cent of a wide box, so that zooming is a change of the
box's width; names and times of a task show when the mouse is over it.
"""

import html
from collections.abc import Sequence

from lingvo_gpipe.tracing import bars, report
from lingvo_gpipe.tracing.traced_pipeline import TracedPipeline

_ROW = 34  # Pixels of a device's row.

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5em; color: #222;
  max-width: 1500px; }
h1 { font-size: 1.3em; } h2 { font-size: 1.05em; margin: 1.2em 0 .3em; }
.chart { display: flex; }
.labels { flex: 0 0 auto; padding-right: 8px; text-align: right;
  font-size: 11px; line-height: 13px; white-space: pre; }
.labels div { height: ROWpx; display: flex; align-items: center;
  justify-content: flex-end; }
.scroll { flex: 1; overflow: auto hidden; }
.wide { position: relative; width: 100%; }
.lane { position: relative; height: ROWpx; box-sizing: border-box;
  border-bottom: 1px solid #eee; }
.bar { position: absolute; top: 3px; bottom: 3px; box-sizing: border-box;
  overflow: hidden; text-align: center; font-size: 11px; line-height: 26px;
  border: 1px solid #fff; }
.bar.critical { border: 2px solid #111; line-height: 24px; }
.axis { position: relative; height: 34px; font-size: 11px; color: #555; }
.axis span { position: absolute; transform: translateX(-50%); top: 4px;
  white-space: nowrap; }
.axis span:first-child { transform: none; }
.line { position: absolute; top: 0; bottom: 0; width: 1px; background: #ddd; }
.key { display: inline-block; width: 14px; height: 14px; margin: 0 4px 0 14px;
  vertical-align: -2px; }
.title { font-weight: 600; height: 26px; line-height: 26px; }
table { border-collapse: collapse; margin: .5em 0; }
td, th { padding: 2px 10px; border-bottom: 1px solid #ddd; text-align: right; }
td:first-child, th:first-child { text-align: left; }
pre { background: #f6f6f6; padding: .8em; white-space: pre-wrap; }
""".replace('ROW', str(_ROW))

_SCRIPT = """
const zoom = document.getElementById('zoom');
zoom.addEventListener('input', () => {
  for (const wide of document.querySelectorAll('.wide'))
    wide.style.width = zoom.value + '%';
});
"""


def page(traced: TracedPipeline, figures: report.Figures) -> str:
  """The page, as HTML."""
  both = bars.panels(traced.shown, traced.shown_step)
  length = max(panel.length for panel in both)
  size, unit = bars.unit_of(length)
  title = html.escape(f'Trace of {figures["model"]}')
  parts = [
    '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
    f'<title>{title}</title><style>{_STYLE}</style></head><body>',
    f'<h1>{title}: {html.escape(report.verdict(traced))}</h1>',
    f'<p>{_legend(both)} &nbsp; Zoom: <input type="range" id="zoom" min="100" '
    'max="1500" value="100"></p>',
    _chart(both, length, size, unit),
    '<h2>Devices</h2>',
    _table(report.device_table(figures)),
    '<h2>Cells (times of one micro-batch)</h2>',
    _table(report.cell_table(figures)),
    '<h2>All figures</h2>',
    f'<pre>{html.escape(report.text(traced, figures))}</pre>',
    f'<script>{_SCRIPT}</script></body></html>',
  ]
  return '\n'.join(parts) + '\n'


def _legend(both: Sequence[bars.Panel]) -> str:
  keys = [
    f'<span class="key" style="background:{colour}"></span>{what}'
    for what, colour in bars.legend(both)
  ]
  keys.append(
    '<span class="key" style="border:2px solid #111;box-sizing:border-box">'
    '</span>critical path'
  )
  return ''.join(keys) + ' &nbsp; The number is the micro-batch.'


def _chart(
  both: Sequence[bars.Panel], length: float, size: float, unit: str
) -> str:
  labels, lanes = [], []
  for panel in both:
    labels.append('<div class="title" style="height:26px"></div>')
    lanes.append(f'<div class="title">{html.escape(panel.title)}</div>')
    for device, label in enumerate(panel.row_labels):
      labels.append(f'<div>{html.escape(label)}</div>')
      row = ''.join(
        _bar(bar, length, size, unit)
        for bar in panel.bars
        if bar.device == device
      )
      lanes.append(f'<div class="lane">{row}</div>')
  marks = bars.ticks(length)
  decimals = 0 if all((mark / size) % 1 < 1e-9 for mark in marks) else 1
  lines = ''.join(
    f'<div class="line" style="left:{mark / length:.4%}"></div>'
    for mark in marks
  )
  texts = ''.join(
    f'<span style="left:{mark / length:.4%}">{mark / size:.{decimals}f} '
    f'{unit}</span>'
    for mark in marks
  )
  return (
    f'<div class="chart"><div class="labels">{"".join(labels)}</div>'
    f'<div class="scroll"><div class="wide">{lines}{"".join(lanes)}'
    f'<div class="axis">{texts}</div></div></div></div>'
  )


def _bar(bar: bars.Bar, length: float, size: float, unit: str) -> str:
  colour = bars.COLOURS[bar.kind]
  background = colour
  duration = bar.end - bar.start
  tip = (
    f'{bar.task}: {bar.kind} of cell {bar.task.cell}, micro-batch '
    f'{bar.task.micro_batch}\n{bar.start / size:.3f} to {bar.end / size:.3f} '
    f'{unit}: {duration / size:.3f} {unit}'
  )
  if bar.recompute:
    share = bar.recompute / duration
    again = bars.COLOURS[bars.RECOMPUTE]
    background = (
      f'linear-gradient(90deg,{again} {share:.1%},{colour} {share:.1%})'
    )
    tip += f', of which {bar.recompute / size:.3f} recomputation'
  critical = ' critical' if bar.critical else ''
  return (
    f'<div class="bar{critical}" style="left:{bar.start / length:.4%};'
    f'width:{duration / length:.4%};background:{background}" '
    f'title="{html.escape(tip)}">{html.escape(bar.label)}</div>'
  )


def _table(table: report.Table) -> str:
  header, rows = table
  head = ''.join(f'<th>{html.escape(text)}</th>' for text in header)
  body = ''.join(
    '<tr>' + ''.join(f'<td>{html.escape(t)}</td>' for t in row) + '</tr>'
    for row in rows
  )
  return f'<table><tr>{head}</tr>{body}</table>'
