# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import itertools
import json

import lingvo.compat as tf
import local_training
import pytest

from lingvo_gpipe.schedules import make_schedule
from lingvo_gpipe.tracing import step_tracer


def _summaries(directory):
  return {
    value.tag: (event.step, value)
    for path in directory.glob('train/events*')
    for event in tf.train.summary_iterator(str(path))
    for value in event.summary.value
  }


def test_steps_of_a_training_are_traced(tmp_path, capsys):
  pytest.importorskip('matplotlib')
  model = 'stand_in_pipeline.Small'
  with local_training.settings(
    tmp_path,
    model=model,
    recompute='always',
    max_steps=5,
    trace_step=4,
    trace_steps=2,
  ):
    [tracer] = step_tracer.listeners()
    local_training.train(model, tracer)
  said = capsys.readouterr().out
  [traced] = tracer.traced
  assert list(traced.steps) == [4, 5]
  for step in traced.steps.values():
    assert step.schedule == make_schedule('1f1b', (0, 1), 4)
    assert [name[-5:] for name in step.devices] == ['CPU:0', 'CPU:1']
    assert len(step.start) == 16
    for row in step.schedule.device_tasks:
      for first, second in itertools.pairwise(row):
        assert step.start[second] >= step.end[first]
    for task in step.start:
      assert 0 < step.duration(task) < step.seconds
      for needed in step.schedule.dependencies(task):
        assert step.start[task] >= step.end[needed]
    # None of the second cell, which would gain nothing.
    assert {task.cell for task in step.recompute} == {0}
    assert len(step.recompute) == 4
    for task, seconds in step.recompute.items():
      assert 0 < seconds < step.duration(task)
    assert step.bubble >= step.simulated.bubble - 1e-3
    assert 0 < step.before < step.before + step.length < step.seconds
    assert list(step.memory) == ['/job:localhost/replica:0/task:0']
  assert 'Bubble   measured' in said
  assert 'flatten' in said
  directory = tmp_path / 'trace'
  names = 'trace.png trace.html trace.json numbers.json report.txt'
  assert {path.name for path in directory.iterdir()} == set(names.split())
  found = json.loads((directory / 'numbers.json').read_text())
  bubble = found['bubble']['measured']
  assert bubble == traced.median(lambda step: step.bubble)
  assert any('micro-batches' in p['change'] for p in found['proposals'])
  summaries = _summaries(tmp_path)
  step, value = summaries['pipeline/small.small.pipeline/bubble_measured']
  assert step == 5
  assert value.simple_value == pytest.approx(bubble)
  image = summaries['pipeline/small.small.pipeline/trace'][1].image
  assert image.encoded_image_string.startswith(b'\x89PNG')
  assert image.width > image.height > 100
