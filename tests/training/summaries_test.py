# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import types
from unittest import mock

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline as tp
from lingvo.core import base_layer, py_utils

from lingvo_gpipe import schedules
from lingvo_gpipe.training import model_pipelines, summaries


class _Writer:
  def __init__(self):
    self.values = {}

  def add_summary(self, summary, step=None):
    for value in summary.value:
      self.values[value.tag] = (step, value)

  def flush(self):
    pass


@pytest.fixture
def runner(graph_mode):
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


def test_the_schedule_is_an_image_and_its_bubble_a_number(runner):
  summaries.RunSummaries().trainer_built(runner)
  values = runner.summary_writer.values
  image = values['pipeline/net/schedule'][1].image
  assert image.encoded_image_string.startswith(b'\x89PNG')
  bubble = values['pipeline/net/bubble_planned'][1].simple_value
  assert bubble == pytest.approx(1 / 5)
  plugin = values['pipeline/net/cut'][1].metadata.plugin_data
  assert plugin.plugin_name == 'text'


class _Pair(base_layer.BaseLayer):
  """Two pipelines of one name, in different layers."""

  def __init__(self, params):
    super().__init__(params)
    if params.name == 'both':
      for name in ('teacher', 'student'):
        self.CreateChild(name, _Pair.Params().Set(name=name))
    else:
      self.CreateChild('net', tp.pipeline(tp.linear('a', 'b')))


def test_a_teacher_is_drawn_without_backward_tasks(runner, capsys):
  with tf.variable_scope('teacher'):
    teacher = tp.pipeline(tp.linear('a', 'b')).Instantiate()
  with tf.variable_scope('student'):
    student = tp.pipeline(tp.linear('a', 'b')).Instantiate()
  x = tf.constant(tp.inputs())
  targets = tf.stop_gradient(teacher.FProp(teacher.theta, x))
  loss = tf.reduce_sum((student.FProp(student.theta, x) - targets) ** 2)
  tf.gradients(loss, student.vars.Flatten())
  run = [model_pipelines.schedule_that_runs(p) for p in (teacher, student)]
  assert [schedule.forward_only for schedule in run] == [True, False]
  runner.model = types.SimpleNamespace(children={'net': [teacher]})
  summaries.RunSummaries().trainer_built(runner)
  values = runner.summary_writer.values
  # Two cells, four micro-batches: 8 of 10 slots.
  bubble = values['pipeline/net/bubble_planned'][1].simple_value
  assert bubble == pytest.approx(1 / 5)
  model_pipelines.PipelineReport().trainer_built(runner)
  assert 'B0' not in capsys.readouterr().out


def test_two_pipelines_of_one_name_have_tags_of_their_own(runner):
  runner.model = _Pair.Params().Set(name='both').Instantiate()
  summaries.RunSummaries().trainer_built(runner)
  tags = {t for t in runner.summary_writer.values if t.endswith('/cut')}
  assert tags == {
    f'pipeline/both.{name}.net/cut' for name in ('teacher', 'student')
  }


def test_memory_is_written_now_and_then_and_at_the_end(runner):
  now = 0.0
  listener = summaries.RunSummaries(clock=lambda: now)
  listener.trainer_built(runner)
  values = runner.summary_writer.values
  for step, seconds, expected in ((1, 9, 1), (2, 4, 1), (3, 1, 3), (7, 1, 7)):
    now += seconds
    listener.after_step(step, {})
    assert values['run/peak_memory_bytes'][0] == expected
  assert values['run/peak_memory_bytes'][1].simple_value > 1e7


def _pixels(png):
  with tf.Graph().as_default(), tf.Session() as session:
    return session.run(tf.io.decode_png(png, channels=3))


def test_a_task_is_where_it_runs_and_the_bubble_is_white():
  pixels = _pixels(summaries.draw(schedules.make_schedule('1f1b', (0, 1), 2)))
  # device 0: F0 F1 .  B0 .  B1; device 1: .  F0 B0 F1 B1 .
  columns = (pixels.shape[1] - 1) // 6 * np.arange(6) + 12
  first, second = pixels[12, columns], pixels[24 + 12, columns]
  white = np.all([first, second] == np.uint8(255), axis=-1).astype(int)
  assert white.tolist() == [[0, 0, 1, 0, 1, 0], [1, 0, 0, 0, 0, 1]]
  # A task looks the same on each device; kinds and micro-batches differ.
  assert list(first[0]) == list(second[1])
  assert len({tuple(p) for p in first if not np.all(p == 255)}) == 4


@pytest.mark.parametrize('micro_batches', [1, 3000])
def test_any_size_is_drawn(micro_batches):
  schedule = schedules.make_schedule('gpipe', (0, 1), micro_batches)
  png = summaries.draw(schedule)
  height, width, _ = _pixels(png).shape
  assert width < 7000
  image = summaries.image_value('a', png).image
  assert (image.width, image.height) == (width, height)


def test_a_full_disk_is_a_warning_and_writing_goes_on_later(warnings):
  now = 0.0
  old, new = made = [mock.Mock(), mock.Mock()]
  writer = summaries.SummaryWriter(iter(made).__next__, clock=lambda: now)
  writer.add_summary('a', 1)
  full = tf.errors.ResourceExhaustedError(None, None, 'No space left')
  old.flush.side_effect = full
  writer.flush()
  writer.add_summary('b', 2)
  assert warnings.getvalue() == (
    'Warning: summaries could not be written (No space left). Training '
    'continues; the next try is in 60 s.\n'
  )
  now = 61.0
  writer.add_summary('c', 3)
  assert old.add_summary.call_args_list == [mock.call('a', 1)]
  assert new.add_summary.call_args_list == [mock.call('c', 3)]
  # As the writer's thread words it. A mistake is no full disk.
  new.flush.side_effect = RuntimeError('No space left')
  writer.flush()
  assert warnings.getvalue().count('\n') == 2
  with pytest.raises(TypeError):
    summaries.SummaryWriter(dict).update(1)
