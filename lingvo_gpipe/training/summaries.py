# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What TensorBoard shows of a run, beside the metrics that Lingvo writes.

pipeline/PATH/schedule   the schedule as an image
pipeline/PATH/cut        the table of its cells
pipeline/PATH/bubble_planned
                         the share of device time that is idle if layers take
                         what they cost in the plan
run/peak_memory_bytes    the process's peak resident memory
"""

import textwrap
import time

import lingvo.compat as tf
import numpy as np

from lingvo_gpipe import cpu_devices, schedules, sequential_layer
from lingvo_gpipe.schedules import TaskKind
from lingvo_gpipe.training import (
  checkpoints,
  listeners,
  logs,
  model_pipelines,
  stage_times,
  user_error,
)

# Seconds between two values of memory; the file is written out with each.
_INTERVAL = 5.0
# After a failure to write: seconds until the next file is begun.
_RETRY_SECONDS = 60.0

# The schedule's image, in pixels: a device's row, and a time slot.
_ROW = 24
_MAX_SLOT = 24
_MAX_WIDTH = 2048
_COLOURS = {  # Of the first and of the last micro-batch.
  TaskKind.FORWARD: ((158, 202, 255), (8, 48, 140)),
  TaskKind.BACKWARD: ((255, 204, 128), (191, 54, 12)),
  TaskKind.WEIGHT_GRADIENT: ((178, 223, 138), (27, 94, 32)),
}


class SummaryWriter:
  """A `tf.summary.FileWriter` that survives a full disk.

  TensorFlow's writes nothing more once something went wrong. Here what can't be
  written is left out, with a warning.
  """

  def __init__(self, make, clock=time.monotonic):
    self._make = make
    self._clock = clock
    self._writer = make()
    self._no_write_before = None

  def __getattr__(self, name):
    value = getattr(self._writer, name)
    if not callable(value):
      return value
    return lambda *args, **kwargs: self._call(name, *args, **kwargs)

  def _call(self, name, *args, **kwargs):
    try:
      if self._no_write_before is not None:
        if self._clock() < self._no_write_before:
          return None
        with tf.Graph().as_default():  # It asks for graph mode.
          self._writer = self._make()
        self._no_write_before = None
      return getattr(self._writer, name)(*args, **kwargs)
    # The writer's thread makes a RuntimeError of some.
    except (*checkpoints.WRITE_ERRORS, RuntimeError) as error:
      self._no_write_before = self._clock() + _RETRY_SECONDS
      logs.warn(
        f'summaries could not be written ({user_error.reason(error)}). '
        f'Training continues; the next try is in {_RETRY_SECONDS:.0f} s.'
      )
      return None


class RunSummaries(listeners.StepListener):
  """Writes summaries into the file that the trainer has its own in."""

  def __init__(self, clock=time.monotonic):
    self._clock = clock
    self._writer = None
    self._last_step = None
    self._next = float('-inf')  # When to write memory.

  def trainer_built(self, runner):
    self._writer = runner.summary_writer
    if self._writer is None:
      return
    self._last_step = runner.params.train.max_steps
    for pipeline in model_pipelines.pipelines(runner.model):
      self._writer.add_summary(_of_pipeline(pipeline))
    self._writer.flush()

  def after_step(self, step, metrics):
    now = self._clock()
    if self._writer and (now >= self._next or step == self._last_step):
      self._next = now + _INTERVAL
      memory = float(stage_times.peak_memory_bytes())
      values = [_scalar('run/peak_memory_bytes', memory)]
      self._writer.add_summary(tf.Summary(value=values), step)
      self._writer.flush()


def _scalar(tag, value):
  return tf.Summary.Value(tag=tag, simple_value=value)


def _of_pipeline(pipeline):
  name = f'pipeline/{pipeline.path}'
  cut = model_pipelines.cut_text(pipeline)
  # TensorBoard's Markdown shows what is indented as it is.
  text = tf.make_tensor_proto([textwrap.indent(cut, '    ')])
  values = [tf.Summary.Value(tag=f'{name}/cut', tensor=text)]
  values[0].metadata.plugin_data.plugin_name = 'text'
  schedule = model_pipelines.schedule_that_runs(pipeline)
  if schedule is not None:
    planned = isinstance(pipeline, sequential_layer.GPipeSequentialLayer)
    if planned and not schedule.forward_only:
      bubble = pipeline.table.bubble
    else:
      bubble = float(schedules.simulate(schedule).bubble)
    values += [
      image_value(f'{name}/schedule', draw(schedule)),
      _scalar(f'{name}/bubble_planned', bubble),
    ]
  return tf.Summary(value=values)


def image_value(tag, png):
  width, height = (int.from_bytes(png[at : at + 4], 'big') for at in (16, 20))
  image = tf.Summary.Image(
    width=width,
    height=height,
    colorspace=4 if png[25] == 6 else 3,  # RGBA or RGB.
    encoded_image_string=png,
  )
  return tf.Summary.Value(tag=tag, image=image)


def draw(schedule):
  """Draws a Schedule as PNG: a row a device, a column a time slot.

  Forward tasks are blue, backward ones orange, weight gradients green; the
  shade goes from light to dark with the micro-batch. White is the bubble.
  """
  timeline = schedules.simulate(schedule)
  shades = {
    kind: np.linspace(*ends, schedule.num_micro_batches).round()
    for kind, ends in _COLOURS.items()
  }
  slots = int(max(timeline.end.values()))
  slot = max(1, min(_MAX_SLOT, _MAX_WIDTH // slots))
  pixels = np.full(
    [_ROW * schedule.num_devices + 1, slot * slots + 1, 3], 255, np.uint8
  )
  pixels[::_ROW] = 200
  line = 1 if slot > 3 else 0
  for device, tasks in enumerate(schedule.device_tasks):
    rows = slice(_ROW * device + 1, _ROW * (device + 1))
    for task in tasks:
      start = int(timeline.start[task]) * slot
      end = int(timeline.end[task]) * slot
      colour = shades[task.kind][task.micro_batch]
      pixels[rows, start + line : end] = colour
  config = cpu_devices.session_config(1)
  with tf.Graph().as_default(), tf.Session(config=config) as session:
    return session.run(tf.io.encode_png(pixels))
