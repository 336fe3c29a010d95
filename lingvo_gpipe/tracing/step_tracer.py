# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Has TensorFlow record some steps of a training, and reports on them.

```
  steps   1 .. N - 1          timed, but not traced
          N .. N + count - 1  traced
          then                trace.json, trace.html, trace.png, numbers, text
```
"""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe import sequential_layer
from lingvo_gpipe.tracing import (
  bars,
  chrome_trace,
  events,
  html_page,
  measured_step,
  memory_sampler,
  picture,
  report,
)
from lingvo_gpipe.tracing.traced_pipeline import Setup, TracedPipeline
from lingvo_gpipe.training import (
  cores,
  pipeline_params,
  pipeline_report,
  summaries,
  user_error,
)
from lingvo_gpipe.training.listeners import StepListener

tf.flags.DEFINE_integer(
  'trace_step',
  None,
  'Trace this step of the training, counted from the start of the process, and '
  'write when each task of the pipeline ran to --trace_dir and for '
  'TensorBoard. The first step is 1; use 3 or later, because the first steps '
  'are slower.',
  lower_bound=1,
)
tf.flags.DEFINE_integer(
  'trace_steps', 1, 'How many steps to trace.', lower_bound=1
)
tf.flags.DEFINE_string(
  'trace_dir', '', 'Where to write traces. Default: LOGDIR/trace.'
)

FLAGS = tf.flags.FLAGS

# So many steps before the first traced one say what tracing costs.
_COMPARED = 3
_MAX_LAYERS = 60  # Characters of a cell's layers.


def listeners() -> list['StepTracer']:
  """The tracer that --trace_step asks for, or nothing."""
  if FLAGS.trace_step is None:
    return []
  directory = FLAGS.trace_dir or os.path.join(FLAGS.logdir, 'trace')
  return [
    StepTracer(FLAGS.model, FLAGS.trace_step, FLAGS.trace_steps, directory)
  ]


class StepTracer(StepListener):
  """Traces `count` steps from number `first` on."""

  def __init__(self, model: str, first: int, count: int, directory: str):
    self._model = model
    self._traced = range(first, first + count)
    self._directory = directory
    self._pipelines: list[Any] = []
    self._runner: Any = None
    self._steps_run = 0
    self._step = 0  # Of the training, for titles.
    self._untraced: list[float] = []
    self._events: dict[int, events.StepEvents] = {}
    # What was written, newest last.
    self.traced: list[TracedPipeline] = []

  def trainer_built(self, runner: Any) -> None:
    self._runner = runner
    self._pipelines = list(pipeline_report.pipelines(runner.model))
    if not self._pipelines:
      raise user_error.UserError(
        f'--model={self._model}: it has no PipeliningLayer, so there is no '
        'pipeline to trace.'
      )
    runner.around_step = self.run

  def before_step(self, step: int) -> None:
    self._step = step + 1

  def run(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs a training step, traced if it is one of those."""
    self._steps_run += 1
    if self._steps_run not in self._traced:
      started = time.time()
      result = run(*args, **kwargs)
      self._untraced.append(time.time() - started)
      return result
    level = tf.RunOptions.FULL_TRACE
    if not self._runner.uses_servers:
      # Enough there, and it has no profiler running beside.
      level = tf.RunOptions.SOFTWARE_TRACE
    metadata = tf.RunMetadata()
    pids = memory_sampler.local_pids(
      [device for p in self._pipelines for device in p.cell_devices],
      uses_servers=self._runner.uses_servers,
    )
    started = time.time()
    with memory_sampler.MemorySampler(pids) as sampler:
      result = run(
        *args,
        **kwargs,
        options=tf.RunOptions(trace_level=level),
        run_metadata=metadata,
      )
    self._events[self._step] = dataclasses.replace(
      events.read(metadata.step_stats, started), memory=tuple(sampler.samples)
    )
    return result

  def after_step(self, step: int, metrics: Any) -> None:
    del step, metrics
    if self._events and self._steps_run >= self._traced[-1]:
      self._report()
      self._events.clear()

  # -- Reporting.

  def _report(self) -> None:
    untraced = self._untraced[-_COMPARED:] if self._traced[0] > 2 else []
    for pipeline in self._pipelines:
      passes = []
      for emitted in pipeline.emitted:
        steps = {
          number: measured_step.measured_step(emitted, of_step)
          for number, of_step in self._events.items()
          if measured_step.ran(emitted, of_step)
        }
        if steps:
          passes.append(steps)
      # Pipelines side by side share the mini-batch.
      num_examples = _batch_size(self._runner.params)
      if num_examples is not None:
        num_examples //= max(len(passes), 1)
      for steps in passes:
        setup = _setup(self._model, pipeline, num_examples)
        self.traced.append(TracedPipeline(setup, steps, untraced))
    if not self.traced:
      raise events.TraceError(
        'TensorFlow recorded no task of a pipeline in the traced steps.'
      )
    for i, traced in enumerate(self.traced):
      self._write(traced, '' if len(self.traced) == 1 else f'_{i}')

  def _write(self, traced: TracedPipeline, suffix: str) -> None:
    os.makedirs(self._directory, exist_ok=True)
    figures = report.numbers(traced)
    text = report.text(traced, figures)
    image = _png(traced)
    contents = {
      'trace.png': image,
      'trace.html': html_page.page(traced, figures),
      'trace.json': json.dumps(chrome_trace.chrome_trace(traced.analyses)),
      'numbers.json': json.dumps(figures, indent=2) + '\n',
      'report.txt': text + '\n',
    }
    for name, content in contents.items():
      stem, dot, ending = name.partition('.')
      path = os.path.join(self._directory, f'{stem}{suffix}{dot}{ending}')
      data = content if isinstance(content, bytes) else content.encode()
      pathlib.Path(path).write_bytes(data)
    writer = self._runner.summary_writer
    if writer is not None:
      writer.add_summary(_summary(figures, suffix, image), self._step)
      writer.flush()
    print(
      f'\n{text}\n\nWritten to {self._directory}: {", ".join(contents)}; '
      'trace.json opens in https://ui.perfetto.dev.'
      + (f' (Here with {suffix} in the names.)' if suffix else ''),
      flush=True,
    )


def _batch_size(params: Any) -> int | None:
  """The examples that the input gives for a step, if its Params say so."""
  size = pipeline_params.find(params, 'batch_size')
  if isinstance(size, (list, tuple)):
    size = size[0] if len(size) == 1 else None
  return size if isinstance(size, int) else None


def _setup(model: str, pipeline: Any, num_examples: int | None) -> Setup:
  cut = None
  if isinstance(pipeline, sequential_layer.GPipeSequentialLayer):
    cut = pipeline.plan.partition
    layers = tuple(row.layers_text for row in pipeline.table.rows)
  else:
    layers = tuple(cell.params.name for cell in pipeline.cells)
  return Setup(
    model=model,
    name=pipeline.path,
    layers=tuple(_shortened(text) for text in layers),
    recompute=pipeline.recompute_policy,
    loss_inside=pipeline.params.loss_tpl is not None,
    num_examples=num_examples,
    cut=cut,
    num_cores=cores.num_usable(),
    are_cpus=all('CPU' in device for device in pipeline.cell_devices),
  )


def _shortened(text: str) -> str:
  if len(text) <= _MAX_LAYERS:
    return text
  return text[: _MAX_LAYERS - 3] + '...'


def _png(traced: TracedPipeline) -> bytes:
  schedule = traced.shown.measured.schedule
  title = (
    f'{traced.setup.model}: {schedule.num_cells} cells, '
    f'{schedule.num_micro_batches} micro-batches, schedule {schedule.name}, '
    f'recompute {traced.setup.recompute}'
  )
  return picture.png(
    bars.panels(traced.shown, traced.shown_step),
    title,
    traced.shown.measured.memory,
  )


def _summary(figures: report.Figures, suffix: str, image: bytes) -> Any:
  """What TensorBoard shows: the picture, and the bubbles as scalars."""
  name = f'pipeline/{figures["pipeline"]}{suffix}'
  values = [summaries.image_value(f'{name}/trace', image)]
  for what, value in (
    ('bubble_measured', figures['bubble']['measured']),
    ('bubble_simulated', figures['bubble']['simulated']),
    ('devices_busy_at_once', figures['devices_busy_at_once']),
  ):
    values.append(tf.Summary.Value(tag=f'{name}/{what}', simple_value=value))
  return tf.Summary(value=values)
