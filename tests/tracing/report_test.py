# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The figures, and the files that show them."""

import html.parser
import json

import pytest
import trace_testing as tt

from lingvo_gpipe.tracing import bars, chrome_trace, html_page, picture, report
from lingvo_gpipe.tracing.analysis import Analysis
from lingvo_gpipe.tracing.traced_pipeline import Setup, TracedPipeline

MS = tt.MS


def _traced(workers=False, num_micro_batches=4, **kwargs):
  emitted = tt.emitted(num_micro_batches=num_micro_batches, workers=workers)
  setup = Setup(
    model='some.Model',
    name='net',
    layers=('a, b', 'c <d>'),
    recompute='always',
    loss_inside=True,
    num_examples=16,
    num_cores=kwargs.pop('num_cores', 2),
    are_cpus=kwargs.pop('are_cpus', True),
  )
  steps = {
    step: tt.step(emitted, tt.durations((1, 1 + d), (2, 3)), **kwargs)
    for step, d in ((4, 0.0), (5, 1.0), (6, 0.5))
  }
  return TracedPipeline(setup, steps, [0.02, 0.03, 0.025])


def _text(traced):
  return report.text(traced, report.numbers(traced))


def test_figures_are_medians_and_can_be_written_as_json():
  traced = _traced()
  found = json.loads(json.dumps(report.numbers(traced)))
  assert found['shown_step'] == 6
  step = traced.analyses[6]
  assert found['bubble']['measured'] == pytest.approx(step.bubble)
  assert abs(found['bubble']['measured'] - found['bubble']['simulated']) < 1e-6
  assert found['slowest_cell'] == 1
  assert found['cells'][1]['seconds'] == pytest.approx(4.5 * MS)
  seconds = found['seconds']
  assert seconds['step_untraced'] == 0.025
  parts = ('before_first_task', 'pipeline', 'after_last_task')
  assert sum(seconds[part] for part in parts) == pytest.approx(seconds['step'])
  path = found['critical_path']
  assert path['task_seconds'] == pytest.approx(path['seconds'])


def test_the_text_says_what_was_asked():
  text = _text(_traced(workers=True, transfer=0.2 * MS))
  for part in (
    'It is pipelining: on average 1.',
    'Bubble   measured ',
    'simulated with the measured durations',
    '1 c <d> (slowest)',
    'Critical path of step 6: ',
    'Transfers: 8 between processes',
    'to 1: 0.2 ms',
    '[--micro_batches=8]',
    'at most ',
  ):
    assert part in text
  assert 'Clocks' not in text


def test_moved_clocks_are_admitted():
  ahead = {tt.cpu(0, 0): 0.0, tt.cpu(0, 1): 0.5}
  text = _text(_traced(workers=True, transfer=0.2 * MS, clock=ahead.get))
  assert 'Clocks did not agree: times were moved (/job:worker' in text


def test_the_verdict_names_the_reason():
  assert 'one micro-batch only' in report.verdict(_traced(num_micro_batches=1))
  assert '1 core(s) for 2 devices' in report.verdict(_traced(num_cores=1))
  assert 'not CPUs' in report.verdict(_traced(are_cpus=False))


def test_the_chrome_trace_has_a_row_a_device_and_a_slice_a_task():
  traced = _traced(delay=0.1 * MS)
  trace = json.loads(json.dumps(chrome_trace.chrome_trace(traced.analyses)))
  events = trace['traceEvents']
  names = {
    (e['pid'], e['tid']): e['args']['name']
    for e in events
    if e['name'] == 'thread_name'
  }
  assert names[1, 1] == f'device 1 (cell 1) {tt.cpu(1)}'
  slices = [e for e in events if e['ph'] == 'X' and e['pid'] == 1]
  assert len(slices) == 3 * 16
  for row in (0, 1):
    last = 0.0
    for event in (e for e in slices if e['tid'] == row):
      assert event['ts'] >= last - 0.01
      last = event['ts'] + event['dur']
  first = next(e for e in slices if e['args']['task'] == 'B1.2')
  assert first['name'] == 'backward 2'
  assert first['dur'] == pytest.approx(3000, abs=0.1)
  starts = [e for e in events if e['ph'] == 's']
  assert len(starts) == len([e for e in events if e['ph'] == 'f']) == 3 * 8
  assert len({e['id'] for e in starts}) == len(starts)
  assert any(e['pid'] == 3 and e['name'] == 'update' for e in events)


class _Tags(html.parser.HTMLParser):
  def __init__(self):
    super().__init__()
    self.open, self.bars, self.links = [], [], []

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    if tag not in ('meta', 'input'):
      self.open.append(tag)
    self.links += [v for k, v in attrs.items() if k in ('src', 'href')]
    if attrs.get('class', '').startswith('bar'):
      self.bars.append(attrs)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing():
  traced = _traced()
  page = html_page.page(traced, report.numbers(traced))
  tags = _Tags()
  tags.feed(page)
  assert not tags.open
  assert not tags.links
  assert 'http' not in page.replace('some.Model', '')
  assert len(tags.bars) == 2 * 16
  assert 'c &lt;d&gt;' in page
  assert any(b['title'].startswith('B1.2: backward') for b in tags.bars)


def test_recomputation_has_a_colour_of_its_own():
  emitted = tt.emitted()
  # In the step that is shown cell 1 is slower, so B1.0 is a little later.
  begun = tt.step(emitted, tt.durations()).start[tt.backward(1, 0)]
  start = begun + 3.6 * MS
  node = tt.node(tt.recompute_name(tt.backward(1, 0)), start, start + MS)
  traced = _traced()
  assert not any(what == bars.RECOMPUTE for what, _ in _legend(traced))
  traced = _traced(more={tt.cpu(1): [node]})
  assert any(what == bars.RECOMPUTE for what, _ in _legend(traced))


def _legend(traced):
  return bars.legend(bars.panels(traced.shown, traced.shown_step))


@pytest.mark.parametrize(
  ('seconds', 'unit'), [(12.0, 's'), (2.0, 'ms'), (0.005, 'µs')]
)
def test_times_have_units_that_read_well(seconds, unit):
  assert bars.unit_of(seconds)[1] == unit


def test_ticks_are_round():
  assert bars.ticks(0.95) == pytest.approx([i / 10 for i in range(10)])
  assert bars.ticks(0.0) == [0.0]


def test_a_picture_is_a_png_with_rows_for_all_devices():
  pytest.importorskip('matplotlib')
  heights = []
  for num_cells in (2, 4):
    emitted = tt.emitted(num_cells=num_cells)
    of = tt.durations((1,) * num_cells, (2,) * num_cells)
    found = Analysis(tt.step(emitted, of))
    png = picture.png(bars.panels(found, 3), 'A title')
    assert png.startswith(b'\x89PNG')
    heights.append(int.from_bytes(png[20:24], 'big'))
  assert heights[1] > heights[0] + 100
