# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shows how far the training is: a bar on a terminal, else plain lines."""

import collections
import shutil
import time
from typing import Any

import tqdm

from lingvo_gpipe.training import listeners

# Steps over which the rates are averaged.
_WINDOW = 30
# Of a model's own metrics, so many are shown at most.
_MAX_METRICS = 6
# What a rate is given of, the first that the model counts.
_UNITS = {'num_tokens_in_batch': 'tokens', 'num_samples_in_batch': 'examples'}


class Progress(listeners.StepListener):
  """Shows step, metrics, examples or tokens a second and the time to go.

  `num_steps` returns the step at which the training ends; `line_seconds` lie
  between two lines, where there is no terminal.
  """

  def __init__(
    self, stream, num_steps, line_seconds=10.0, clock=time.monotonic
  ):
    self._stream = stream
    self._get_num_steps = num_steps
    self._num_steps = None
    self._line_seconds = line_seconds
    self._clock = clock
    # The newest steps: (time when done, step, examples or tokens in it).
    self._recent: collections.deque[Any] = collections.deque(maxlen=_WINDOW + 1)
    self._next_line = float('-inf')  # The first step has one.
    self._bar = None

  def before_step(self, step):
    if self._num_steps is not None:
      return
    # Only now, since after a restart the first step is not 0.
    self._num_steps = self._get_num_steps()
    if self._stream.isatty():
      # Some terminals don't tell their size; tqdm would draw nothing there.
      size = shutil.get_terminal_size()
      self._bar = tqdm.tqdm(
        total=self._num_steps,
        initial=step,
        file=self._stream,
        ncols=size.columns,
        nrows=size.lines,
        bar_format='step {n_fmt}/{total_fmt} |{bar}| {desc}',
      )

  def after_step(self, step, metrics):
    now = self._clock()
    text = '  '.join([*_own_metrics(metrics), *self._rates(now, step, metrics)])
    if self._bar is not None:
      self._bar.set_description_str(text, refresh=False)
      self._bar.update(step - self._bar.n)
    elif now >= self._next_line or step >= self._num_steps:
      self._next_line = now + self._line_seconds
      line = f'step {step}/{self._num_steps}  {text}'
      print(line, file=self._stream, flush=True)

  def _rates(self, now, step, metrics):
    counted = next((name for name in _UNITS if name in metrics), None)
    number = float(metrics[counted][0]) if counted else 0.0
    self._recent.append((now, step, number))
    # The oldest entry only gives the time at which the next one started; the
    # very first step, in which TensorFlow optimises the graph, does so.
    (first_time, first_step, _), *recent = self._recent
    seconds, steps = now - first_time, step - first_step
    if seconds <= 0 or steps <= 0:
      return
    if counted:
      rate = sum(number for _, _, number in recent) / seconds
      yield f'{rate:.0f} {_UNITS[counted]}/s'
    left = (self._num_steps - step) * seconds / steps
    yield f'ETA {tqdm.tqdm.format_interval(left)}'

  def close(self):
    if self._bar is not None:
      self._bar.refresh()
      self._bar.close()


def _own_metrics(metrics):
  """The model's own metrics, the loss first: the learners' have a slash."""
  names = [n for n in metrics if '/' not in n and not n.startswith('num_')]
  names.sort(key=lambda name: name != 'loss')
  return [f'{n} {float(metrics[n][0]):.4g}' for n in names[:_MAX_METRICS]]
