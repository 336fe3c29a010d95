# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Follows Lingvo's runners from outside, as a `Trial` that changes nothing."""

import contextlib
import dataclasses

from lingvo import base_trial


class StepListener:
  """Is told of the training steps; does nothing with them."""

  def trainer_built(self, runner):
    """The `runners.Trainer` has built its graph; no step has run."""

  def before_step(self, step):
    """Step number `step` is about to run: the steps done so far, an int."""

  def after_step(self, step, metrics):
    """A step has run; metrics are {name: (value, weight)}, NumPy scalars."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Result of evaluating or decoding a checkpoint."""

  step: int
  metrics: dict[str, float]  # Means over the whole set.
  num_examples: int
  checkpoint: str  # Its path, without a suffix; '' for a decoding.


class ObservingTrial(base_trial.NoOpTrial):
  """Tells listeners of the steps; keeps the evaluations, and says them."""

  def __init__(self, listeners=(), say=lambda text: None):
    super().__init__()
    self.listeners = list(listeners)
    self.evaluations = []
    self._say = say

  def trainer_built(self, runner):
    for listener in self.listeners:
      listener.trainer_built(runner)

  def ShouldStopAndMaybeReport(self, global_step, metrics_dict):
    """Called by the trainer before each step with the metrics of the last."""
    step = int(global_step)
    if metrics_dict is not None:
      for listener in self.listeners:
        listener.after_step(step, metrics_dict)
    # The one that listens first stands closest to the step, on both sides.
    for listener in reversed(self.listeners):
      listener.before_step(step)
    return False

  def ReportEvalMeasure(self, global_step, metrics_dict, checkpoint_path):
    metrics = {}
    for name, metric in metrics_dict.items():
      with contextlib.suppress(TypeError, ValueError):  # It may be anything.
        metrics[name] = float(metric.value)
    count = round(float(metrics_dict['num_samples_in_batch'].total_value))
    step = int(global_step)
    self.evaluations.append(Evaluation(step, metrics, count, checkpoint_path))
    said = '  '.join(
      f'{name} {value:.4g}'
      for name, value in sorted(metrics.items())
      if name != 'num_samples_in_batch'
    )
    self._say(f'step {step}, {count} examples: {said}')
    return False
