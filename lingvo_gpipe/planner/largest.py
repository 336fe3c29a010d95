# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The largest models of a family that fit into devices, by the memory model."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

from lingvo_gpipe.cutting import partitioner, text_table
from lingvo_gpipe.cutting.units import format_bytes
from lingvo_gpipe.planner import recommend
from lingvo_gpipe.planner.forecast import Forecast, Speeds
from lingvo_gpipe.planner.workload import Setting, Workload


@dataclasses.dataclass(frozen=True)
class Largest:
  """The largest model of one length, or of all.

  Attributes:
    length: L.
    width: D; 0 where it is fixed.
    workload: The model.
    forecast: The best way to run it.
  """

  length: int
  width: int
  workload: Workload
  forecast: Forecast


@dataclasses.dataclass(frozen=True)
class Search:
  """Finds the largest models.

  Attributes:
    workload: Gives the model of a length and a width.
    ways: Gives the settings in which a model may run.
    device_memory: Bytes that a device may hold.
    speeds: Of devices and links.
  """

  workload: Callable[[int, int], Workload]
  ways: Callable[[Workload], Sequence[Setting]]
  device_memory: int
  speeds: Speeds | None = None

  def widest(
    self, lengths: Sequence[int], widths: Sequence[int]
  ) -> list[Largest]:
    """For each length the widest model that fits; lengths of which none does
    are left out.
    """
    models = []
    for length in lengths:
      width = largest_that_fits(widths, functools.partial(self.fits, length))
      if width is not None:
        models.append(self._describe(length, width))
    return models

  def longest(self, lengths: Sequence[int]) -> list[Largest]:
    """The longest model that fits; nothing if none does."""
    length = largest_that_fits(lengths, lambda length: self.fits(length, 0))
    return [] if length is None else [self._describe(length, 0)]

  def fits(self, length: int, width: int) -> bool:
    """Whether a model fits in one of the ways."""
    work = self.workload(length, width)
    # What needs least comes last.
    for way in reversed(self.ways(work)):
      spec = work.spec(way, self.device_memory)
      if spec.num_cells <= len(work.layers) and partitioner.fits(
        work.layers_for(way.num_micro_batches), spec
      ):
        return True
    return False

  def _describe(self, length: int, width: int) -> Largest:
    work = self.workload(length, width)
    forecasts = recommend.forecasts(
      work, self.ways(work), self.speeds, self.device_memory
    )
    chosen = recommend.best(forecasts)
    assert chosen is not None
    return Largest(length, width, work, chosen)


def largest_that_fits(
  sizes: Sequence[int], fits: Callable[[int], bool]
) -> int | None:
  """The largest of ascending sizes that fits, if all smaller ones do.

  Returns:
    The size, or None if not even the first fits.
  """
  low, high = -1, len(sizes)
  step = 1
  # Steps that double, as large sizes take longer to ask for.
  while low + step < high and fits(sizes[low + step]):
    low, step = low + step, 2 * step
  high = min(low + step, high)
  while high - low > 1:
    middle = (low + high) // 2
    if fits(sizes[middle]):
      low = middle
    else:
      high = middle
  return None if low < 0 else sizes[low]


def largest_of(models: Sequence[Largest]) -> Largest:
  """The one with the most parameters."""
  return max(models, key=lambda one: one.workload.parameters)


def as_text(models: Sequence[Largest]) -> str:
  """A table with a model a row, the one with most parameters marked."""
  header = ['model', 'parameters', 'layers', 'runs with', 'fullest device']
  header += ['speed-up', '']
  most = largest_of(models)
  return text_table.table(
    header,
    [
      [
        one.workload.name,
        f'{one.workload.parameters:,}',
        str(len(one.workload.layers)),
        str(one.forecast.setting),
        format_bytes(one.forecast.fullest),
        f'{one.forecast.speedup:.2f}',
        'largest' if one is most and len(models) > 1 else '',
      ]
      for one in models
    ],
  )
