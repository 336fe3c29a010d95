# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import io
import types

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tiny_pipeline as tp
from lingvo.core import base_layer, py_utils

from lingvo_gpipe.training import pipeline_report, run_summaries


class _Writer:
  def __init__(self):
    self.values = {}

  def add_summary(self, summary, step=None):
    for value in summary.value:
      self.values[value.tag] = (step, value)

  def flush(self):
    pass


@pytest.fixture
def runner():
  """Stands for a trainer with a pipeline of two cells, its graph built."""
  eager = py_utils.IsEagerMode()
  py_utils.SetEagerMode(False, test_mode=True)
  with pt.cluster(2), tf.Graph().as_default():
    py_utils.GetOrCreateGlobalStepVar()
    layer = tp.with_loss(tp.linear('a', 'b'), schedule='1f1b').Instantiate()
    x = tf.constant(tp.inputs())
    layer.ComputeLoss(layer.theta, x, x)
    model = types.SimpleNamespace(children={'net': layer, 'others': []})
    train = types.SimpleNamespace(max_steps=7)
    yield types.SimpleNamespace(
      model=model,
      summary_writer=_Writer(),
      params=types.SimpleNamespace(train=train),
    )
  py_utils.SetEagerMode(eager, test_mode=True)


def test_the_schedule_is_an_image_and_its_bubble_a_number(runner):
  run_summaries.RunSummaries().trainer_built(runner)
  values = runner.summary_writer.values
  image = values['pipeline/net/schedule'][1].image
  assert image.encoded_image_string.startswith(b'\x89PNG')
  bubble = values['pipeline/net/bubble_planned'][1].simple_value
  assert bubble == pytest.approx(1 / 5)
  assert (
    values['pipeline/net/cut'][1].metadata.plugin_data.plugin_name == 'text'
  )


class _Half(base_layer.BaseLayer):
  """A layer with a pipeline in it, whose name says nothing."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateChild('net', tp.pipeline(tp.linear('a', 'b')))


class _Both(base_layer.BaseLayer):
  """A model of two halves."""

  def __init__(self, params):
    super().__init__(params)
    for name in ('teacher', 'student'):
      self.CreateChild(name, _Half.Params().Set(name=name))


def _teacher_and_student():
  """Two pipelines of one name; only the student's has backward tasks."""
  with tf.variable_scope('teacher'):
    teacher = tp.pipeline(tp.linear('a', 'b')).Instantiate()
  with tf.variable_scope('student'):
    student = tp.pipeline(tp.linear('a', 'b')).Instantiate()
  x = tf.constant(tp.inputs())
  targets = tf.stop_gradient(teacher.FProp(teacher.theta, x))
  loss = tf.reduce_sum((student.FProp(student.theta, x) - targets) ** 2)
  tf.gradients(loss, student.vars.Flatten())
  return teacher, student


def test_a_teacher_is_drawn_without_the_backward_tasks_that_it_has_not(runner):
  teacher, student = _teacher_and_student()
  schedules = [
    pipeline_report.schedule_that_runs(p) for p in (teacher, student)
  ]
  assert [s.forward_only for s in schedules] == [True, False]
  runner.model = types.SimpleNamespace(children={'net': [teacher]})
  run_summaries.RunSummaries().trainer_built(runner)
  values = runner.summary_writer.values
  # Two cells, four micro-batches: 8 of 10 slots.
  bubble = values['pipeline/net/bubble_planned'][1].simple_value
  assert bubble == pytest.approx(1 / 5)
  stream = io.StringIO()
  pipeline_report.PipelineReport(stream).trainer_built(runner)
  assert 'B0' not in stream.getvalue()


def test_two_pipelines_of_one_name_have_tags_of_their_own(runner):
  runner.model = _Both.Params().Set(name='both').Instantiate()
  run_summaries.RunSummaries().trainer_built(runner)
  tags = {t for t in runner.summary_writer.values if t.endswith('/cut')}
  assert tags == {
    'pipeline/both.teacher.net/cut',
    'pipeline/both.student.net/cut',
  }


def test_core_share_and_memory_are_of_the_time_in_between(runner):
  now = [0.0]
  summaries = run_summaries.RunSummaries(
    interval=10, clock=lambda: now[0], cpu_clock=lambda: 0.75 * now[0]
  )
  summaries.trainer_built(runner)
  values = runner.summary_writer.values
  for step, seconds in ((1, 100), (2, 4), (3, 7), (4, 2), (7, 1)):
    now[0] += seconds
    summaries.after_step(step, {})
    expected = {1: None, 2: None, 3: 3, 4: 3, 7: 7}[step]
    assert values.get('run/core_share', (None,))[0] == expected
  assert values['run/core_share'][1].simple_value == pytest.approx(0.375)
  assert values['run/peak_memory_bytes'][1].simple_value > 1e7


def test_cells_and_schedule_are_printed(runner):
  stream = io.StringIO()
  pipeline_report.PipelineReport(stream).trainer_built(runner)
  text = stream.getvalue()
  assert 'device:CPU:0\nd1  /' in text
  assert '1f1b: cells 2, devices 2, micro-batches 4' in text
  assert 'device 1  . F0 B0' in text
