# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How far a pipeline is from plain layers, and what is wrong with its loss."""

import collections
import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lingvo_gpipe.checking.one_batch import Loss, Result

# What is smaller counts as this, since it may be zero but for rounding: a
# gradient as a share of the norm of all (a bias before batch norm), a metric.
_LEAST_SHARE = 1e-4
_LEAST_METRIC = 1e-5
# Of the tolerance: what is not this close to a sum is so by accident.
_EXACT = 0.01


@dataclasses.dataclass(frozen=True)
class Way:
  """A way of running the model, compared with its plain layers.

  Differences, of 'gradient of LAYER' and 'metric NAME', are relative to the
  plain layers' value; infinite where one of the two is not finite.
  """

  num_cells: int
  num_micro_batches: int
  differences: Mapping[str, float]
  lost: Sequence[str]  # Variables with a gradient in plain layers only.

  @property
  def name(self) -> str:
    return f'K = {self.num_cells}, M = {self.num_micro_batches}'

  @property
  def largest(self) -> float:
    return max(self.differences.values(), default=0.0)


def compare(plain: Result, other: Result) -> Way:
  differences = {
    f'metric {name}': _metric_error(other.metrics.get(name, math.nan), value)
    for name, value in plain.metrics.items()
  }
  norms = collections.defaultdict(list)
  total: dict[str, float] = collections.defaultdict(float)
  lost = []
  for key, gradient in plain.gradients.items():
    loss, layer, variable = key
    found = other.gradients.get(key)
    if found is None and gradient is not None and np.any(gradient):
      lost.append(variable)
    a, b = (np.float64(0 if g is None else g) for g in (gradient, found))
    norm = float(np.linalg.norm(a))
    total[loss] = math.hypot(total[loss], norm)
    norms[loss, layer].append((norm, float(np.linalg.norm(a - b))))
  for (loss, layer), pairs in norms.items():
    norm, apart = map(float, np.linalg.norm(pairs, axis=0))
    by = f' ({loss})' if len(total) > 1 else ''
    differences[f'gradient of {layer}{by}'] = _ratio(
      apart, max(norm, _LEAST_SHARE * total[loss])
    )
  return Way(other.num_cells, other.num_micro_batches, differences, lost)


def _metric_error(value: float, right: float) -> float:
  return _ratio(abs(value - right), max(abs(right), _LEAST_METRIC))


def _ratio(difference: float, size: float) -> float:
  if difference == 0:
    return 0.0
  ratio = difference / size if size else math.inf
  return ratio if math.isfinite(ratio) else math.inf


def explain(losses: Mapping[str, Loss], tolerance: float) -> Iterator[str]:
  """What is wrong with the metrics of loss layers, a line for each.

  The pipeline's value is the weighted mean of those of the micro-batches, so
  that must be the mini-batch's value.
  """
  for path, loss in losses.items():
    if loss.weight_is_trained:
      yield (
        f'{path}: the weight of the loss depends on trained weights, but '
        'counts as a constant. Compute it from the targets'
      )
    for name, (whole, weight) in sorted(loss.whole.items()):
      pairs = np.array([part[name] for part in loss.parts], np.float64)
      if len(pairs) > 1:
        values, weights = pairs.T
        fault = _fault(float(whole), float(weight), values, weights, tolerance)
        if fault:
          yield f'{path}: metric {name!r}: {fault}'


def _fault(
  whole: float,
  whole_weight: float,
  values: np.ndarray,
  weights: np.ndarray,
  tolerance: float,
) -> str:
  counted = weights != 0
  if not np.any(counted):
    return ''
  if not np.all(np.isfinite(values[counted])) and math.isfinite(whole):
    return 'it is not finite for a micro-batch, though it is for the whole'
  mean = np.average(values[counted], weights=weights[counted])
  if _metric_error(float(mean), whole) <= tolerance:
    return ''
  advice = 'Return a mean, and as its weight what you divided by'
  if _metric_error(float(np.sum(values)), whole) <= _EXACT * tolerance:
    return f'its value is a sum, of which the pipeline makes a mean. {advice}'
  if set(weights) == {whole_weight}:
    return (
      f'its weight is {whole_weight:g} for every micro-batch, so all count '
      f'equally. {advice}'
    )
  return (
    'it is not the mean of its values for the micro-batches by their weights. '
    f'{advice}; take a maximum, a root or an exponential outside the pipeline'
  )
