# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import io
import types

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tiny_pipeline as tp
from lingvo.core import py_utils

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
