# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The largest models of a family that fit into devices, by the memory model.

A longer model repeats layers of a short one, and a layer's costs are quadratic
in the width D. So a family's layers are traced in a short model, at three
widths or at the only one, and no large model ever is.
"""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from lingvo_gpipe.costing import layer_profile
from lingvo_gpipe.costing.weights import equal_but_name
from lingvo_gpipe.cutting import partitioner, text_table
from lingvo_gpipe.cutting.cost_model import LayerCost, Number
from lingvo_gpipe.cutting.units import format_bytes
from lingvo_gpipe.pipeline import flat_layers
from lingvo_gpipe.planner import recommend, registered
from lingvo_gpipe.planner.forecast import Forecast, Speeds, forecast
from lingvo_gpipe.planner.workload import Setting, Workload
from lingvo_gpipe.training import user_error

# What of a layer's cost depends on the width.
_TIMES = ('forward', 'backward', 'weight_gradient')
_NUMBERS = (
  *('parameters', 'weight_bytes', 'optimizer_bytes', 'gradient_sum_bytes'),
  *('activation_bytes', 'transient_bytes', 'output_bytes'),
)


def largest(
  workload: Callable[[int], Workload],
  sizes: Sequence[int],
  ways: Callable[[Workload], Sequence[Setting]],
  device_memory: int,
  speeds: Speeds | None = None,
) -> Forecast | None:
  """The best way to run the largest model that fits, if one does.

  `workload` gives the model of a size, `ways` the settings in which it may run;
  sizes ascend, and a device may hold `device_memory` bytes.
  """

  def fits(size: int) -> bool:
    work = workload(size)
    # What needs least comes last.
    for way in reversed(ways(work)):
      spec = work.spec(way, device_memory)
      if spec.num_cells <= len(work.layers) and partitioner.fits(
        work.layers_for(way.num_micro_batches), spec
      ):
        return True
    return False

  size = largest_that_fits(sizes, fits)
  if size is None:
    return None
  work = workload(size)
  return recommend.best(
    [forecast(work, way, speeds, device_memory) for way in ways(work)]
  )


def largest_that_fits(
  sizes: Sequence[int], fits: Callable[[int], bool]
) -> int | None:
  """The largest of ascending sizes that fits, if all smaller ones do."""
  begin, step = 0, 1
  # Steps that double, as large sizes take longer to ask for.
  while begin + step <= len(sizes) and fits(sizes[begin + step - 1]):
    begin, step = begin + step, 2 * step
  end = min(begin + step - 1, len(sizes))
  count = bisect.bisect(sizes, 0, begin, end, key=lambda n: not fits(n))
  return sizes[count - 1] if count else None


def as_text(models: Sequence[Forecast]) -> str:
  """A table with a model a row, the one with most parameters marked."""
  header = ['model', 'parameters', 'layers', 'runs with', 'fullest device']
  header += ['speed-up', '']
  most = max(models, key=lambda one: one.workload.parameters)
  rows = [
    [
      one.workload.name,
      f'{one.workload.parameters:,}',
      str(len(one.workload.layers)),
      str(one.setting),
      format_bytes(one.fullest),
      f'{one.speedup:.2f}',
      'largest' if one is most and len(models) > 1 else '',
    ]
    for one in models
  ]
  return (
    f'{text_table.table(header, rows)}\n{most.workload.name} has most '
    f'parameters, {most.workload.parameters:,}.'
  )


@dataclasses.dataclass(frozen=True)
class Kind:
  """How the classes of registered models say their size.

  Attributes:
    length: The class attribute that is L.
    width: The class attribute that is D, or '' if D is fixed.
    short: An L whose model has each kind of layer that longer ones have.
    length_step: L is a multiple of this.
    widths: The D that are traced; others are multiples of the first.
  """

  name: str
  length: str
  width: str
  short: int
  length_step: int
  widths: tuple[int, ...]


# In a run of an AmoebaNet's normal cells the third is like all that follow it,
# but for the network's last, which hands nothing on: so four in a run.
AMOEBANET = Kind('AmoebaNet', 'LENGTH', 'DIM', 12, 3, (32, 64, 96))
TRANSFORMER = Kind('Transformer', 'NUM_LAYERS', '', 2, 1, (0,))


class Family:
  """Models that differ from a registered one in size alone."""

  def __init__(self, model: str, **overrides: Any):
    """Takes a model's name, and Params of its pipeline to set."""
    self._model = model
    self._overrides = overrides
    self._class = registered.model_class(model)
    for kind in (AMOEBANET, TRANSFORMER):
      names = kind.length, kind.width or kind.length
      if all(hasattr(self._class, name) for name in names):
        self.kind = kind
        break
    else:
      raise user_error.UserError(
        f'--largest: the size of {model} cannot be changed. Its class has '
        'neither LENGTH and DIM (as image.imagenet.AmoebaNetD18x256 has) nor '
        'NUM_LAYERS (as lm.paper.Transformer13 has).'
      )

  def workload(self, length: int, width: int = 0) -> Workload:
    """The model of a size; layers have the names of their like in the short."""
    kind = self.kind
    short = min(length, kind.short)
    size = f'({length}, {width})' if kind.width else f'-{length}'
    # The input is as wide in all of them.
    return dataclasses.replace(
      self._traced(short, kind.widths[0]),
      name=f'{kind.name}{size}',
      layers=tuple(self._cost(short, i, width) for i in self._layers(length)),
    )

  def _params(self, length: int, width: int) -> Any:
    sizes = {self.kind.length: length}
    if self.kind.width:
      sizes[self.kind.width] = width
    cls = type(self._class.__name__, (self._class,), sizes)
    return registered.layer_params(self._model, cls).Set(**self._overrides)

  @functools.cache  # noqa: B019 (lives as long as the program)
  def _traced(self, short: int, width: int) -> Workload:
    return registered.workload(self._model, self._params(short, width))

  @functools.cache  # noqa: B019
  def _cost(self, short: int, index: int, width: int) -> LayerCost:
    return cost_at_width(
      {w: self._traced(short, w).layers[index] for w in self.kind.widths}, width
    )

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
    """
    kind = self.kind
    counts = self._run_lengths(min(length, kind.short))
    steps = max(length - kind.short, 0) // kind.length_step
    more = counts
    if steps:
      more = self._run_lengths(kind.short + kind.length_step)
    if [i for i, _ in counts] != [i for i, _ in more]:
      raise ValueError(
        f'{self._model}: longer models do not repeat the layers of the one of '
        f'length {kind.short}, so their cost is not known.'
      )
    return [
      i
      for (i, count), (_, next_count) in zip(counts, more, strict=True)
      for _ in range(count + steps * (next_count - count))
    ]

  def _run_lengths(self, length: int) -> list[tuple[int, int]]:
    """For each run of like layers its place in the short model, and length."""
    short = self._cost_params(min(length, self.kind.short))
    indices = []
    for name, params in self._cost_params(length):
      like = (i for i, (_, p) in enumerate(short) if equal_but_name(p, params))
      index = next(like, None)
      if index is None:
        raise ValueError(
          f'{self._model}: layer {name!r} at length {length} is like none at '
          f'length {self.kind.short}, so its cost is not known.'
        )
      indices.append(index)
    return [(i, len(list(same))) for i, same in itertools.groupby(indices)]

  def _cost_params(self, length: int) -> list[tuple[str, Any]]:
    params = self._params(length, self.kind.widths[0])
    return [
      (layer.name, layer_profile.cost_params(layer.params))
      for layer in flat_layers.flatten(params.sub, params)
    ]


def cost_at_width(known: Mapping[int, LayerCost], width: int) -> LayerCost:
  """The cost of a layer at any width, by those at three, or all there are."""
  if width in known:
    return known[width]

  def at_width(name: str) -> Fraction:
    points = {w: getattr(cost, name) for w, cost in known.items()}
    return max(_interpolated(points, width), Fraction(0))

  forward, backward, of_weights = map(at_width, _TIMES)
  numbers: dict[str, Any] = {name: round(at_width(name)) for name in _NUMBERS}
  numbers['gradient_bytes'] = numbers.pop('gradient_sum_bytes')
  if backward:
    numbers['weight_share'] = float(min(of_weights / backward, Fraction(1)))
  return dataclasses.replace(
    next(iter(known.values())), forward=forward, backward=backward, **numbers
  )


def _interpolated(points: Mapping[int, Number], x: int) -> Fraction:
  """The value at x of the polynomial through points (Lagrange)."""
  total = Fraction(0)
  for a, value in points.items():
    weight = Fraction(value)
    for b in points:
      if b != a:
        weight *= Fraction(x - b, a - b)
    total += weight
  return total
