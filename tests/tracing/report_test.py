# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import dataclasses
import json
import re
import xml.etree.ElementTree

import pytest
import trace_testing as tt

from lingvo_gpipe.tracing import chrome_trace, picture, report
from lingvo_gpipe.tracing.measured_step import TracedPipeline

MS = tt.MS


def _traced(
  workers=False, num_micro_batches=4, num_cores=2, are_cpus=True, **kwargs
):
  emitted = tt.emitted(num_micro_batches=num_micro_batches, workers=workers)
  steps = {
    step: tt.step(emitted, tt.durations((1, 1 + d), (2, 3)), **kwargs)
    for step, d in ((4, 0.0), (5, 1.0), (6, 0.5))
  }
  layers = ('l0', 'l1 <d>')
  return TracedPipeline(
    'a.B', 'net', layers, 'always', True, steps, 16, None, num_cores, are_cpus
  )


def _text(traced):
  return report.text(traced, report.numbers(traced))


def test_figures_are_medians_and_can_be_written_as_json():
  traced = _traced()
  found = json.loads(json.dumps(report.numbers(traced)))
  assert found['shown_step'] == 6
  step = traced.steps[6]
  assert found['bubble']['measured'] == pytest.approx(step.bubble)
  assert abs(found['bubble']['measured'] - found['bubble']['simulated']) < 1e-6
  assert found['slowest_cell'] == 1
  assert found['cells'][1]['seconds'] == pytest.approx(4.5 * MS)
  seconds = found['seconds']
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
    'Busy     device 0 ',
    '1 l1 <d> (slowest)',
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


@pytest.mark.parametrize(
  ('known', 'reason'),
  [
    ({'num_micro_batches': 1}, 'one micro-batch only'),
    ({'num_cores': 1}, '1 core(s) for 2 devices'),
    ({'are_cpus': False}, 'not CPUs'),
  ],
)
def test_the_verdict_names_the_reason(known, reason):
  assert reason in report.verdict(_traced(**known))


def test_the_chrome_trace_has_a_row_a_device_and_a_slice_a_task():
  traced = _traced(delay=0.1 * MS)
  trace = json.loads(json.dumps(chrome_trace.chrome_trace(traced.steps)))
  events = trace['traceEvents']
  names = [e['args'].get('name') for e in events if e['ph'] == 'M']
  assert f'device 1 (cell 1) {tt.cpu(1)}' in names
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
  starts, ends = ([e['id'] for e in events if e['ph'] == ph] for ph in 'sf')
  assert starts == ends
  assert len(set(starts)) == len(starts) == 3 * 8


def test_the_page_shows_tasks_and_figures_and_loads_nothing():
  pytest.importorskip('matplotlib')
  traced = _traced()
  again = {tt.backward(1, 2): 0.5 * MS}
  traced.steps[6] = dataclasses.replace(traced.steps[6], recompute=again)
  drawn = picture.draw(traced)
  page = picture.page(traced, drawn, _text(traced))
  links = re.findall(r'(?:src|href)=["\'](.*?)["\']', page)
  assert links and all(link.startswith('#') for link in links)
  assert '<title>B1.2: 3.000 ms from 11.500 ms on, of which 500.000 ' in page
  assert 'l1 &lt;d&gt;' in page
  xml.etree.ElementTree.fromstring(
    page[page.index('<svg') : page.index('</figure')]
  )
  [legend] = drawn.legends
  assert 'recomputation' in [text.get_text() for text in legend.get_texts()]
