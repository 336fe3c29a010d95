# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How far two ways of running a model are apart, and what a loss has to do
with it."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from lingvo_gpipe.checking.one_batch import Loss, Result

# What is smaller counts as this: gradients that are zero but for rounding, as
# that of a bias before batch norm, and metrics likewise.
_LEAST_SHARE = 1e-4  # Of the norm of all gradients.
_LEAST_METRIC = 1e-5
# A way of combining the parts explains a metric only if it gives it almost
# exactly: by less, one of several ways may come close by accident.
_EXPLAINED = 0.01  # Of the tolerance.


@dataclasses.dataclass(frozen=True)
class Way:
  """A way of running the model, compared with its plain layers.

  Attributes:
    differences: By what is compared, 'gradient of LAYER' or 'metric NAME', the
      difference relative to the plain layers' value; infinite where one of the
      two has a NaN or an infinity.
    lost: Names of variables that have a gradient in the plain layers only.
  """

  num_cells: int
  num_micro_batches: int
  differences: Mapping[str, float]
  lost: Sequence[str] = ()

  @property
  def name(self) -> str:
    return f'K = {self.num_cells}, M = {self.num_micro_batches}'

  @property
  def largest(self) -> float:
    """The largest difference."""
    return max(self.differences.values(), default=0.0)


def compare(plain: Result, other: Result) -> Way:
  """Compares a result with that of the plain layers."""
  differences = {}
  for name, value in plain.metrics.items():
    found = other.metrics.get(name, math.nan)
    differences[f'metric {name}'] = _ratio(
      abs(found - value), max(abs(value), _LEAST_METRIC)
    )
  losses = list(dict.fromkeys(loss for loss, _ in plain.gradients))
  for loss in losses:
    by = f' ({loss})' if len(losses) > 1 else ''
    for layer, difference in _by_layer(plain, other, loss).items():
      differences[f'gradient of {layer}{by}'] = difference
  lost = [
    key[1]
    for key, gradient in plain.gradients.items()
    if gradient is not None
    and np.any(gradient)
    and other.gradients.get(key) is None
  ]
  return Way(other.num_cells, other.num_micro_batches, differences, lost)


def _by_layer(plain: Result, other: Result, loss: str) -> dict[str, float]:
  """The relative difference of each layer's gradient, in their order."""
  squares: dict[str, float] = {}
  apart: dict[str, float] = {}
  for variable, layer in plain.layers.items():
    key = loss, variable
    if key not in plain.gradients:
      continue
    a = _as_float64(plain.gradients[key])
    b = _as_float64(other.gradients.get(key))
    squares[layer] = squares.get(layer, 0.0) + float(np.sum(a * a))
    apart[layer] = apart.get(layer, 0.0) + float(np.sum((a - b) ** 2))
  least = _LEAST_SHARE * math.sqrt(sum(squares.values()))
  return {
    layer: _ratio(math.sqrt(apart[layer]), max(math.sqrt(square), least))
    for layer, square in squares.items()
  }


def _as_float64(gradient: np.ndarray | None) -> np.ndarray:
  """A gradient; 0 for none."""
  return np.float64(0) if gradient is None else gradient.astype(np.float64)


def _ratio(difference: float, size: float) -> float:
  if difference == 0:
    return 0.0
  ratio = difference / size if size else math.inf
  return ratio if math.isfinite(ratio) else math.inf


# -- The loss layer's metrics.

_MEAN = 'Return a mean, and as its weight what you divided by'


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
  return float(np.sum(values * weights) / np.sum(weights))


# Ways to combine the parts' values, by their weights, that are not the
# pipeline's: what the metric is then, and what to do.
_KINDS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
  f'its value is a sum, of which the pipeline makes a mean. {_MEAN}': (
    lambda v, w: float(np.sum(v))
  ),
  'its value is a maximum. Compute it outside the pipeline': (
    lambda v, w: float(np.max(v))
  ),
  'its value is a minimum. Compute it outside the pipeline': (
    lambda v, w: float(np.min(v))
  ),
  'its value is the root of a mean. Return the mean square, and compute the '
  'root outside the pipeline': lambda v, w: math.sqrt(_mean(v**2, w)),
  'its value is the exponential of a mean, such as a perplexity. Return the '
  'mean, and compute the exponential outside the pipeline': (
    lambda v, w: math.exp(_mean(np.log(v), w))
  ),
}


def explain(loss: Loss, tolerance: float) -> list[str]:
  """What is wrong with the metrics of a loss layer, a line for each.

  The pipeline takes the mean of the micro-batches' values by their weights;
  a metric for which that is not its value for the mini-batch is told apart by
  what it would have to be combined by.
  """
  lines = []
  if loss.weight_is_trained:
    lines.append(
      f'{loss.name}: the weight of the loss depends on trained weights, but '
      'counts as a constant. Use a weight that is computed from the targets'
    )
  for name, whole in sorted(loss.whole.items()):
    pairs = np.array([part[name] for part in loss.parts], np.float64)
    if len(pairs) > 1:
      fault = _fault(whole, pairs[:, 0], pairs[:, 1], tolerance)
      if fault:
        lines.append(f'{loss.name}: metric {name!r}: {fault}')
  return lines


def _fault(
  whole_pair: tuple[float, float],
  values: np.ndarray,
  weights: np.ndarray,
  tolerance: float,
) -> str:
  """What is wrong with a metric, or ''."""
  whole, whole_weight = map(float, whole_pair)

  def error(value: float) -> float:
    return _ratio(abs(value - whole), max(abs(whole), _LEAST_METRIC))

  counted = weights != 0
  if not np.any(counted):
    return ''
  with np.errstate(all='ignore'):
    if not np.all(np.isfinite(values[counted])) and math.isfinite(whole):
      return 'it is not finite for a micro-batch, though it is for the whole'
    if error(_mean(values[counted], weights[counted])) <= tolerance:
      return ''
    errors = {
      text: error(combine(values, weights)) for text, combine in _KINDS.items()
    }
  nearest = min(errors, key=lambda text: errors[text])
  if errors[nearest] <= _EXPLAINED * tolerance:
    return nearest
  if set(weights) == {whole_weight}:
    return (
      f'its weight is {whole_weight:g} for every micro-batch, so all count '
      f'equally. {_MEAN}'
    )
  return f'its weight is not what its value was divided by. {_MEAN}'
