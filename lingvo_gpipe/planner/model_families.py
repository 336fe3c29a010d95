# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Families of registered models, costed for any size from a few small ones.

A longer model repeats layers of a short one, and a layer's costs are a
polynomial in the width D: weights and FLOPs of its convolutions and matrices
are quadratic, activations, biases and norms linear. So a family's layers are
traced in a short model at three widths, or one if the width is fixed, and no
large model ever is.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from lingvo_gpipe.costing import pipeline_plan
from lingvo_gpipe.costing.weights import equal_but_name
from lingvo_gpipe.cutting.cost_model import LayerCost, Number
from lingvo_gpipe.pipeline import flat_layers
from lingvo_gpipe.planner import registered
from lingvo_gpipe.planner.workload import Workload
from lingvo_gpipe.training import user_error

# So many tell a polynomial of degree two.
_NUM_WIDTHS = 3


@dataclasses.dataclass(frozen=True)
class Kind:
  """How the classes of registered models say their size.

  Attributes:
    name: The family's name.
    length: The class attribute that is L.
    width: The class attribute that is D, or '' if D is fixed.
    short: An L whose model has each kind of layer that longer ones have.
    length_step: L is a multiple of this.
    width_step: So is D of this.
    traced: The three D that are traced.
  """

  name: str
  length: str
  width: str
  short: int
  length_step: int
  width_step: int = 1
  traced: tuple[int, ...] = ()


# In a run of an AmoebaNet's normal cells the third is like all that follow it,
# but for the network's last, which hands nothing on: so four in a run.
AMOEBANET = Kind('AmoebaNet', 'LENGTH', 'DIM', 12, 3, 32, (32, 64, 96))
TRANSFORMER = Kind('Transformer', 'NUM_LAYERS', '', 2, 1)


class Family:
  """Models that differ from a registered one in size alone."""

  def __init__(self, model: str, **overrides: Any):
    """Finds out which family a model is of.

    Args:
      model: The name it is registered under.
      **overrides: Params of its GPipeSequentialLayer to set.

    Raises:
      UserError: There is no such model, or its class says no size.
    """
    self._model = model
    self._overrides = overrides
    self._class = registered.model_class(model)
    kinds = [
      kind
      for kind in (AMOEBANET, TRANSFORMER)
      if hasattr(self._class, kind.length)
      and (not kind.width or hasattr(self._class, kind.width))
    ]
    if not kinds:
      raise user_error.UserError(
        f'--largest: {model} is in no family of models. The class of a model '
        'in a family has LENGTH and DIM (as image.imagenet.AmoebaNetD18x256), '
        'or NUM_LAYERS (as lm.paper.Transformer13).'
      )
    self.kind = kinds[0]

  def title(self, length: int, width: int) -> str:
    """A model's name in reports; `width` does not count if it is fixed."""
    if not self.kind.width:
      return f'{self.kind.name}-{length}'
    return f'{self.kind.name}({length}, {width})'

  def workload(self, length: int, width: int = 0) -> Workload:
    """The model of a size, not traced unless it is a small one.

    Layers have the names of those in the short model that they are like.
    """
    short = min(length, self.kind.short)
    layers = tuple(
      self._cost(short, index, width) for index in self._layers(length)
    )
    small = self._traced(short, self._widths[0])
    # The input is as wide in all of them.
    return dataclasses.replace(
      small, name=self.title(length, width), layers=layers
    )

  @property
  def _widths(self) -> tuple[int, ...]:
    return self.kind.traced or (0,)

  def _params(self, length: int, width: int) -> Any:
    """Params of the pipeline of a size."""
    sizes = {self.kind.length: length}
    if self.kind.width:
      sizes[self.kind.width] = width
    cls = type(self._class.__name__, (self._class,), sizes)
    return registered.layer_params(self._model, cls).Set(**self._overrides)

  @functools.cache  # noqa: B019 (lives as long as the program)
  def _traced(self, short: int, width: int) -> Workload:
    """A short model at a width."""
    return registered.workload(self._model, self._params(short, width))

  @functools.cache  # noqa: B019
  def _cost(self, short: int, index: int, width: int) -> LayerCost:
    """The cost of a layer of a short model at any width."""
    known = {w: self._traced(short, w).layers[index] for w in self._widths}
    if not self.kind.width:
      return known[0]
    return cost_at_width(known, width)

  @functools.cache  # noqa: B019
  def _layers(self, length: int) -> list[int]:
    """The layers of a length, as positions in the short model.

    From the short model to the one a step longer some layers come to be
    repeated more often, and so it goes on:

    ```
      short        a b c c d      counts  1 1 2 1
      a step more  a b c c c d            1 1 3 1
      n steps more                        1 1 2+n 1
    ```

    Raises:
      ValueError: Longer models are no such repetition.
    """
    kind = self.kind
    short = self._like(min(length, kind.short))
    steps = (length - min(length, kind.short)) // kind.length_step
    if not steps:
      return short
    longer = self._like(kind.short + kind.length_step)
    counts, more = _run_lengths(short), _run_lengths(longer)
    if [i for i, _ in counts] != [i for i, _ in more]:
      raise ValueError(
        f'{self._model}: {self.title(length, self._widths[0])} does not repeat '
        f'the layers of {self.title(kind.short, self._widths[0])}, so its cost '
        'is not known.'
      )
    return [
      i
      for (i, count), (_, next_count) in zip(counts, more, strict=True)
      for _ in range(count + steps * (next_count - count))
    ]

  @functools.cache  # noqa: B019
  def _like(self, length: int) -> list[int]:
    """For each layer of a model the first of the short model that is like it.

    Raises:
      ValueError: There is none like one of them.
    """
    width = self._widths[0]
    short_length = min(length, self.kind.short)
    short = _cost_params(self._params(short_length, width))
    indices = []
    for name, params in _cost_params(self._params(length, width)):
      like = [i for i, (_, p) in enumerate(short) if equal_but_name(p, params)]
      if not like:
        raise ValueError(
          f'{self._model}: layer {name!r} of {self.title(length, width)} is '
          f'like none of {self.title(short_length, width)}, so its cost '
          'is not known.'
        )
      indices.append(like[0])
    return indices


def _run_lengths(numbers: Sequence[int]) -> list[tuple[int, int]]:
  """Each number with how often it is repeated."""
  return [(i, len(list(same))) for i, same in itertools.groupby(numbers)]


def _cost_params(params: Any) -> list[tuple[str, Any]]:
  """Names of a pipeline's layers, and Params without what costs nothing."""
  return [
    (layer.name, pipeline_plan.cost_params(layer.params))
    for layer in flat_layers.flatten(params.sub, params)
  ]


def cost_at_width(known: Mapping[int, LayerCost], width: int) -> LayerCost:
  """The cost of a layer at a width.

  Args:
    known: Its costs at three widths.
    width: Any width.
  """
  if width in known:
    return known[width]
  assert len(known) == _NUM_WIDTHS
  first = next(iter(known.values()))

  def value(get: Callable[[LayerCost], Number]) -> Fraction:
    return _quadratic({w: get(cost) for w, cost in known.items()}, width)

  def size(get: Callable[[LayerCost], Number]) -> int:
    return max(round(value(get)), 0)

  return dataclasses.replace(
    first,
    forward=max(value(lambda cost: cost.forward), Fraction(0)),
    backward=max(value(lambda cost: cost.backward), Fraction(0)),
    parameters=size(lambda cost: cost.parameters),
    weight_bytes=size(lambda cost: cost.weight_bytes),
    gradient_bytes=size(lambda cost: cost.gradient_sum_bytes),
    optimizer_bytes=size(lambda cost: cost.optimizer_bytes),
    activation_bytes=size(lambda cost: cost.activation_bytes),
    output_bytes=size(lambda cost: cost.output_bytes),
  )


def _quadratic(points: Mapping[int, Number], x: int) -> Fraction:
  """The value at x of the parabola through three points (Lagrange)."""
  total = Fraction(0)
  for a, value in points.items():
    weight = Fraction(1)
    for b in points:
      if b != a:
        weight *= Fraction(x - b, a - b)
    total += weight * Fraction(value)
  return total
