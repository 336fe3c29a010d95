# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Has TensorFlow record some steps of a training, and reports on them."""

import json
import os
import pathlib
import textwrap
import time
from collections.abc import Callable
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe import sequential_layer
from lingvo_gpipe.tracing import (
  chrome_trace,
  events,
  memory_sampler,
  picture,
  report,
  task_times,
)
from lingvo_gpipe.tracing.measured_step import MeasuredStep, TracedPipeline
from lingvo_gpipe.training import cores, model_pipelines, summaries, user_error
from lingvo_gpipe.training.listeners import StepListener

tf.flags.DEFINE_integer(
  'trace_step',
  None,
  'Trace this step, counted from the start of the process, and write when each '
  'task of the pipeline ran to --trace_dir and for TensorBoard. Use 3 or more: '
  'the first steps are slower.',
  lower_bound=1,
)
tf.flags.DEFINE_integer(
  'trace_steps', 1, 'How many steps to trace.', lower_bound=1
)
tf.flags.DEFINE_string(
  'trace_dir', '', 'Where to write traces. Default: LOGDIR/trace.'
)

FLAGS = tf.flags.FLAGS

_MAX_LAYERS = 60  # Characters of a cell's layers.


def listeners() -> list['StepTracer']:
  if FLAGS.trace_step is None:
    return []
  directory = FLAGS.trace_dir or os.path.join(FLAGS.logdir, 'trace')
  return [
    StepTracer(FLAGS.model, FLAGS.trace_step, FLAGS.trace_steps, directory)
  ]


class StepTracer(StepListener):
  """Traces `count` steps from number `first` on; `traced`: what it wrote."""

  def __init__(self, model: str, first: int, count: int, directory: str):
    self._model = model
    self._traced = range(first, first + count)
    self._directory = directory
    self._pipelines: list[Any] = []
    self._runner: Any = None
    self._steps_run = 0
    self._step = 0  # Of the training, for titles.
    self._events: dict[int, events.StepEvents] = {}
    self.traced: list[TracedPipeline] = []

  def trainer_built(self, runner: Any) -> None:
    self._runner = runner
    self._pipelines = list(model_pipelines.pipelines(runner.model))
    if not self._pipelines:
      raise user_error.UserError(
        f'--model={self._model}: it has no PipeliningLayer, so there is no '
        'pipeline to trace.'
      )
    runner.around_step = self.run

  def before_step(self, step: int) -> None:
    self._step = step + 1

  def run(self, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    self._steps_run += 1
    if self._steps_run not in self._traced:
      return run(*args, **kwargs)
    metadata = tf.RunMetadata()
    uses_servers = self._runner.uses_servers
    # The latter runs no profiler beside, but knows one process only.
    options = tf.RunOptions
    level = options.FULL_TRACE if uses_servers else options.SOFTWARE_TRACE
    devices = [name for p in self._pipelines for name in p.cell_devices]
    pids = memory_sampler.local_pids(devices, uses_servers=uses_servers)
    started = time.time()
    with memory_sampler.sampled(pids) as memory:
      kwargs['options'] = options(trace_level=level)
      result = run(*args, **kwargs, run_metadata=metadata)
    found = events.read(metadata.step_stats, started)
    self._events[self._step] = found._replace(memory=memory)
    return result

  def after_step(self, step: int, metrics: Any) -> None:
    del step, metrics
    if self._events and self._steps_run >= self._traced[-1]:
      self._find_pipelines()
      for i, traced in enumerate(self.traced):
        self._write(traced, f'_{i}' if len(self.traced) > 1 else '')
      self._events.clear()

  def _find_pipelines(self) -> None:
    passes = []
    for pipeline in self._pipelines:
      for emitted in pipeline.emitted:
        steps = {
          number: step
          for number, of_step in sorted(self._events.items())
          if (step := task_times.measured_step(emitted, of_step))
        }
        if steps:
          passes.append((pipeline, steps))
    if not passes:
      raise RuntimeError(
        'TensorFlow recorded no task of a pipeline in the traced steps.'
      )
    # The examples that the input gives for a step, if its Params say so.
    size = model_pipelines.find(self._runner.params, 'batch_size')
    # Pipelines side by side share the mini-batch.
    size = size // len(passes) if isinstance(size, int) else None
    self.traced = [self._traced_pipeline(*found, size) for found in passes]

  def _traced_pipeline(
    self,
    pipeline: Any,
    steps: dict[int, MeasuredStep],
    num_examples: int | None,
  ) -> TracedPipeline:
    cut = None
    layers = [cell.params.name for cell in pipeline.cells]
    if isinstance(pipeline, sequential_layer.GPipeSequentialLayer):
      cut = pipeline.plan.partition
      layers = [row.layers_text for row in pipeline.table.rows]
    return TracedPipeline(
      model=self._model,
      name=pipeline.path,
      layers=[
        textwrap.shorten(text, _MAX_LAYERS, placeholder=' ...')
        for text in layers
      ],
      recompute=pipeline.recompute_policy,
      loss_inside=pipeline.params.loss_tpl is not None,
      steps=steps,
      num_examples=num_examples,
      cut=cut,
      num_cores=cores.num_usable(),
      are_cpus=all('CPU' in device for device in pipeline.cell_devices),
    )

  def _write(self, traced: TracedPipeline, suffix: str) -> None:
    os.makedirs(self._directory, exist_ok=True)
    figures = report.numbers(traced)
    text = report.text(traced, figures)
    drawn = picture.draw(traced)
    image = picture.png(drawn)
    trace = chrome_trace.chrome_trace(traced.steps)
    contents = {
      f'trace{suffix}.png': image,
      f'trace{suffix}.html': picture.page(traced, drawn, text).encode(),
      f'trace{suffix}.json': json.dumps(trace).encode(),
      f'numbers{suffix}.json': json.dumps(figures, indent=2).encode(),
      f'report{suffix}.txt': f'{text}\n'.encode(),
    }
    for name, content in contents.items():
      pathlib.Path(self._directory, name).write_bytes(content)
    writer = self._runner.summary_writer
    if writer is not None:
      writer.add_summary(_summary(figures, suffix, image), self._step)
      writer.flush()
    print(
      f'\n{text}\n\nWritten to {self._directory}: {", ".join(contents)}; '
      f'trace{suffix}.json opens in https://ui.perfetto.dev.',
      flush=True,
    )


def _summary(figures: report.Figures, suffix: str, image: bytes) -> Any:
  name = f'pipeline/{figures["pipeline"]}{suffix}'
  values = [summaries.image_value(f'{name}/trace', image)]
  for what, value in (
    ('bubble_measured', figures['bubble']['measured']),
    ('bubble_simulated', figures['bubble']['simulated']),
    ('devices_busy_at_once', figures['devices_busy_at_once']),
  ):
    values.append(tf.Summary.Value(tag=f'{name}/{what}', simple_value=value))
  return tf.Summary(value=values)
