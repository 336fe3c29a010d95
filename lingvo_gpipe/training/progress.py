# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shows how far the training is: a bar on a terminal, else plain lines."""

import collections
import shutil
import time

import tqdm

from lingvo_gpipe.training import listeners

# Steps over which the rates are averaged.
_WINDOW = 30
# Of a model's own metrics, so many are shown at most.
_MAX_METRICS = 6
# What a rate is given of, the first that the model counts.
_UNITS = {'tokens': 'num_tokens_in_batch', 'examples': 'num_samples_in_batch'}


def format_duration(seconds):
  """Minutes and seconds, 'm:ss', or 'h:mm:ss' from an hour on."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  if hours:
    return f'{hours}:{minutes:02d}:{seconds:02d}'
  return f'{minutes}:{seconds:02d}'


def _own_metrics(metrics):
  """The metrics of the model itself, the loss first, without counts.

  Lingvo adds those of its learners, whose names have a slash.
  """
  names = [
    name for name in metrics if '/' not in name and not name.startswith('num_')
  ]
  return sorted(names, key=lambda name: name != 'loss')[:_MAX_METRICS]


def _counts(metrics):
  """What is in a mini-batch: {unit: number}, of tokens and examples."""
  return {
    unit: float(metrics[name][0])
    for unit, name in _UNITS.items()
    if name in metrics
  }


class Progress(listeners.StepListener):
  """Shows step, metrics, examples a second and the time still to go.

  Args:
    num_steps: A function that returns the step at which the training ends.
    note: A function that returns what else to say, '' for nothing.
  """

  def __init__(
    self,
    stream,
    num_steps,
    line_seconds=10.0,
    note=lambda: '',
    clock=time.monotonic,
  ):
    self._stream = stream
    self._get_num_steps = num_steps
    self._num_steps = None
    self._line_seconds = line_seconds
    self._note = note
    self._clock = clock
    # The newest steps: (time when done, step, {unit: number in it}).
    self._recent = collections.deque(maxlen=_WINDOW + 1)
    self._next_line = float('-inf')  # The first step has one.
    self._bar = None
    self.last_counts = {}

  def _make_bar(self, first_step):
    # Some terminals don't tell their size; tqdm would draw nothing there.
    size = shutil.get_terminal_size()
    return tqdm.tqdm(
      total=self._num_steps,
      initial=first_step,
      file=self._stream,
      ncols=size.columns,
      nrows=size.lines,
      bar_format='step {n_fmt}/{total_fmt} |{bar}| {desc}',
    )

  def before_step(self, step):
    if self._num_steps is None:
      # Only now, since after a restart the first step is not 0.
      self._num_steps = self._get_num_steps()
      if self._stream.isatty():
        self._bar = self._make_bar(step)

  def after_step(self, step, metrics):
    now = self._clock()
    self.last_counts = _counts(metrics)
    self._recent.append((now, step, self.last_counts))
    text = self._describe(step, metrics)
    if self._bar is not None:
      self._bar.set_description_str(text, refresh=False)
      self._bar.update(step - self._bar.n)
    elif now >= self._next_line or step >= self._num_steps:
      self._next_line = now + self._line_seconds
      print(f'step {step}/{self._num_steps}  {text}', file=self._stream)
      self._stream.flush()

  def _describe(self, step, metrics):
    parts = [
      f'{name} {float(metrics[name][0]):.4g}' for name in _own_metrics(metrics)
    ]
    first_time, first_step, _ = self._recent[0]
    last_time, last_step, _ = self._recent[-1]
    seconds = last_time - first_time
    if seconds > 0 and last_step > first_step:
      rate = self._rate(seconds)
      if rate:
        parts.append(rate)
      left = (self._num_steps - step) * seconds / (last_step - first_step)
      parts.append(f'ETA {format_duration(left)}')
    if self._note():
      parts.append(f'({self._note()})')
    return '  '.join(parts)

  def _rate(self, seconds):
    """Tokens or examples a second, '' if the model counts neither."""
    # The oldest entry only gives the time at which the next one started; the
    # very first step, in which TensorFlow optimises the graph, does so.
    recent = list(self._recent)[1:]
    for unit in _UNITS:
      number = sum(counts.get(unit, 0.0) for _, _, counts in recent)
      if number:
        return f'{number / seconds:.0f} {unit}/s'
    return ''

  def close(self):
    """Leaves the bar as it stands and ends its line."""
    if self._bar is not None:
      self._bar.refresh()
      self._bar.close()
