# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What TensorBoard shows of a run, beside the metrics that Lingvo writes.

pipeline/PATH/schedule   the schedule as an image
pipeline/PATH/cut        the table of its cells
pipeline/PATH/bubble_planned
                         the share of device time that the schedule leaves
                         idle if layers take what they cost in the plan; what
                         is measured, --trace_step adds as bubble_measured
run/core_share           core time used over K times the time that passed:
                         what the devices of this process really did; the
                         work outside of cells counts as well
run/peak_memory_bytes    the process's peak resident memory
"""

import resource
import sys
import time

import lingvo.compat as tf

from lingvo_gpipe import schedules, sequential_layer
from lingvo_gpipe.training import (
  pipeline_report,
  run_observer,
  schedule_image,
)

# Seconds between two sets of scalars; the file is written out with each.
_INTERVAL = 5.0


def peak_memory_bytes():
  """The peak resident memory of this process so far."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == 'darwin' else 1024 * peak


class RunSummaries(run_observer.StepListener):
  """Writes summaries into the file that the trainer has its own in.

  Args:
    interval: Seconds between two sets of scalars, at least; the last step has
      its own.
    clock: A function that returns seconds.
    cpu_clock: A function that returns the seconds of core time used so far.
  """

  def __init__(
    self,
    interval=_INTERVAL,
    clock=time.perf_counter,
    cpu_clock=time.process_time,
  ):
    self._interval = interval
    self._clock = clock
    self._cpu_clock = cpu_clock
    self._writer = None
    self._num_devices = 1
    self._last_step = None
    self._last = None  # When the last scalars were written, on both clocks.

  def trainer_built(self, runner):
    self._writer = runner.summary_writer
    if self._writer is None:
      return
    self._last_step = runner.params.train.max_steps
    for pipeline in pipeline_report.pipelines(runner.model):
      self._num_devices = len(set(pipeline.cell_devices))
      self._writer.add_summary(_of_pipeline(pipeline))
    self._writer.flush()

  def after_step(self, step, metrics):
    del metrics
    now = (self._clock(), self._cpu_clock())
    if self._last is None:
      self._last = now  # The first step also optimises the graph.
      return
    seconds = now[0] - self._last[0]
    if self._writer is None:
      return
    if seconds < self._interval and step != self._last_step:
      return
    share = (now[1] - self._last[1]) / (seconds * self._num_devices)
    self._last = now
    values = {
      'run/core_share': share,
      'run/peak_memory_bytes': float(peak_memory_bytes()),
    }
    self._writer.add_summary(
      tf.Summary(
        value=[
          tf.Summary.Value(tag=tag, simple_value=value)
          for tag, value in values.items()
        ]
      ),
      step,
    )
    self._writer.flush()


def _of_pipeline(pipeline):
  """The summary of a PipeliningLayer whose graph is built."""
  name = f'pipeline/{pipeline.path}'
  schedule = pipeline_report.schedule_that_runs(pipeline)
  text = tf.Summary.Value(
    tag=f'{name}/cut',
    tensor=tf.make_tensor_proto(
      [_verbatim(pipeline_report.cut_text(pipeline))]
    ),
  )
  text.metadata.plugin_data.plugin_name = 'text'
  values = [text]
  if schedule is not None:
    image = schedule_image.draw(schedule)
    values.append(
      tf.Summary.Value(
        tag=f'{name}/schedule',
        image=tf.Summary.Image(
          width=image.width,
          height=image.height,
          colorspace=3,
          encoded_image_string=image.png,
        ),
      )
    )
    values.append(
      tf.Summary.Value(
        tag=f'{name}/bubble_planned', simple_value=_bubble(pipeline, schedule)
      )
    )
  return tf.Summary(value=values)


def _bubble(pipeline, schedule):
  planned = isinstance(pipeline, sequential_layer.GPipeSequentialLayer)
  if planned and not schedule.forward_only:
    return pipeline.table.bubble
  return float(schedules.simulate(schedule).bubble)


def _verbatim(text):
  """Text that TensorBoard's Markdown shows as it is."""
  return '\n'.join('    ' + line for line in text.splitlines())
