# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What layers are to be cut for, and the problem of where, in numbers.

Everything is an integer, so two cuts that are equally good are found to be,
and the result is the same on every machine. Positions count layers: a cell is
a pair of positions (a, b) with a < b and holds layers a to b - 1; K cells are
positions 0 = p[0] < p[1] < ... < p[K] = N.
"""

import bisect
import dataclasses
import functools
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import cost_model
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.memory_model import CellMemory
from lingvo_gpipe.cutting.skips import IntArray, Skip

# Squares are taken of costs whose sum has this many bits or fewer, so that a
# sum of squares fits into 62 bits.
_SQUARED_BITS = 30


@dataclasses.dataclass(frozen=True)
class PipelineSpec:
  """Devices, micro-batches and policies of a pipeline.

  Attributes:
    cells_per_device: V. There are K = D V cells, on devices as the schedule
      wants them.
    micro_batch_size: Examples in a micro-batch, for messages, if it is known.
    recompute: A recompute policy, or FIT.
    kept: Names of layers that are not recomputed, under 'always'.
    input_bytes: Bytes of the first layer's input for one micro-batch.
    device_memory: Bytes that each device may hold; None for no limit.
    skips: Values that layers take of earlier ones past those between.

  ValueError if a number is out of range, or a policy or schedule unknown.
  """

  num_devices: int
  cells_per_device: int = 1
  num_micro_batches: int = 1
  micro_batch_size: int | None = None
  schedule: str = 'gpipe'
  recompute: str = 'always'
  kept: frozenset[str] = frozenset()
  input_bytes: int = 0
  device_memory: int | None = None
  skips: tuple[Skip, ...] = ()

  def __post_init__(self) -> None:
    schedules.check_recompute(self.policy)
    if self.kept and self.recompute != 'always':
      raise ValueError(
        f'recompute is {self.recompute!r}; with layers that are kept, here '
        f"{sorted(self.kept)}, it must be 'always'."
      )
    schedules.check_name(self.schedule)
    for name, least in (
      ('num_devices', 1),
      ('cells_per_device', 1),
      ('num_micro_batches', 1),
      ('micro_batch_size', 1),
      ('input_bytes', 0),
      ('device_memory', 0),
    ):
      value = getattr(self, name)
      if value is not None and value < least:
        raise ValueError(f'{name} is {value}; it must be {least} or more.')

  @property
  def num_cells(self) -> int:
    return self.num_devices * self.cells_per_device

  @functools.cached_property
  def cell_devices(self) -> tuple[int, ...]:
    return schedules.place(self.schedule, self.num_cells, self.num_devices)

  def with_micro_batches(self, num_micro_batches: int) -> 'PipelineSpec':
    """The same mini-batch in other micro-batches, all bytes in proportion."""
    share = Fraction(self.num_micro_batches, num_micro_batches)
    size = self.micro_batch_size
    return dataclasses.replace(
      self,
      num_micro_batches=num_micro_batches,
      micro_batch_size=None if size is None else math.ceil(size * share),
      input_bytes=math.ceil(self.input_bytes * share),
      skips=tuple(
        dataclasses.replace(skip, num_bytes=math.ceil(skip.num_bytes * share))
        for skip in self.skips
      ),
    )

  @property
  def policy(self) -> str:
    """The policy for layers that are not kept."""
    return 'always' if self.recompute == schedules.FIT else self.recompute

  @functools.cached_property
  def counts(self) -> schedules.Counts:
    sizes = self.cell_devices, self.num_micro_batches
    return schedules.count(self.schedule, *sizes, self.policy)

  def layer_times(
    self, layers: Sequence[LayerCost], cell: int
  ) -> list[Fraction]:
    """What each layer takes for a micro-batch in a cell."""
    num_recomputed = self.counts.recomputed[cell]
    return [
      layer.time(
        0 if layer.name in self.kept else num_recomputed, self.num_micro_batches
      )
      for layer in layers
    ]

  def cell_cost(self, layers: Sequence[LayerCost], cell: int) -> Fraction:
    """What layers take as a cell for a micro-batch, recomputation included."""
    cost = sum(self.layer_times(layers, cell), Fraction(0))
    if not layers[-1].has_backward:
      return cost
    # A cell that recomputes runs its first layers again, too.
    share = Fraction(self.counts.recomputed[cell], self.num_micro_batches)
    frozen = [layer for layer in layers if not layer.has_backward]
    return cost + share * self.forward_again(frozen)

  def forward_again(self, layers: Sequence[LayerCost]) -> Fraction:
    """What a cell takes to recompute a micro-batch."""
    return sum(
      (Fraction(x.forward) for x in layers if x.name not in self.kept),
      Fraction(0),
    )

  def cell_memory(self, layers: Sequence[LayerCost]) -> CellMemory:
    return CellMemory(
      layers,
      self.counts.stashed,
      self.policy,
      handed=self.counts.handed,
      num_micro_batches=self.num_micro_batches,
      input_bytes=self.input_bytes,
      skips=self.skips,
      kept=self.kept,
    )


class CutProblem:
  """Layers as numbers.

  `starts` and `ends` are arrays of positions, an element for each cell.
  `total_cost` is more than any cell can cost, or as much. `memory` must be
  there wherever memory matters.
  """

  memory: CellMemory

  def __init__(
    self,
    costs: Sequence[cost_model.Number],
    num_cells: int,
    *,
    cell_devices: Sequence[int] | None = None,
    last_costs: Sequence[cost_model.Number] | None = None,
    memory: CellMemory | None = None,
  ):
    """Turns costs into integers, by `cost_model.to_integers`.

    Args:
      costs: The cost of each layer. If all are 0, each counts as 1.
      num_cells: K, at most the number of layers.
      cell_devices: By default each cell has a device to itself.
      last_costs: The cost of each layer if it lies in the last cell, not above
        that in others; None if it is the same.
    """
    self.num_cells = num_cells
    self.num_layers = len(costs)
    self.cell_devices = tuple(cell_devices or range(num_cells))
    self.num_devices = max(self.cell_devices) + 1
    if memory is not None:
      self.memory = memory
    both = cost_model.to_integers([*costs, *(last_costs or costs)])
    in_most, in_last = both[: len(costs)], both[len(costs) :]
    if not any(in_most):
      in_most = in_last = [1] * len(costs)
    # The divisor leaves a bit for what rounding adds.
    shift = max(0, sum(in_most).bit_length() - (_SQUARED_BITS - 1))
    self._costs_before = [_sums(in_most, 0), _sums(in_last, 0)]
    self._coarse_before = [_sums(in_most, shift), _sums(in_last, shift)]
    self.total_cost = int(self._costs_before[0][-1])

  @classmethod
  def of(cls, layers: Sequence[LayerCost], spec: PipelineSpec) -> 'CutProblem':
    return cls(
      spec.layer_times(layers, 0),
      spec.num_cells,
      cell_devices=spec.cell_devices,
      last_costs=spec.layer_times(layers, spec.num_cells - 1),
      memory=spec.cell_memory(layers),
    )

  def cost_before(self, cell: int) -> IntArray:
    """[N + 1], for each position the cost, in a cell, of all layers before."""
    return self._costs_before[cell == self.num_cells - 1]

  def cost(self, cell: int, starts: IntArray, ends: IntArray) -> IntArray:
    before = self.cost_before(cell)
    return before[ends] - before[starts]

  def squared_cost(
    self, cell: int, starts: IntArray, ends: IntArray
  ) -> IntArray:
    """The square of each cell's cost, in units large enough to sum squares."""
    before = self._coarse_before[cell == self.num_cells - 1]
    cost: IntArray = before[ends] - before[starts]
    return cost * cost

  def cell_memory(
    self, cell: int, starts: IntArray, ends: IntArray
  ) -> IntArray:
    """Bytes, if each cell has a device to itself."""
    held, transient = self.memory.parts(cell, starts, ends)
    return held + transient

  def crossing_bytes(
    self, cell: int, starts: IntArray, ends: IntArray
  ) -> IntArray:
    """Bytes that each cell is given, as if all cells were on other devices."""
    if self.num_devices == 1:
      return np.zeros_like(starts)
    return self.memory.input_bytes(starts, ends)


def _sums(values: Sequence[int], shift: int) -> IntArray:
  """Sums of the values before each position, divided by a power of two."""
  half = 1 << shift >> 1
  rounded = ((value + half) >> shift for value in values)
  return np.array(cost_model.prefix_sums(rounded), np.int64)


class Windows:
  """Which positions cells can meet at, within bounds.

  The bounds are on sums over a cell's layers: its cost, and what its memory
  cannot be below. A cell beyond one is out, and so is any longer one. So the
  positions that k cells can end at lie between `first[k]`, from which the last
  position is just reachable, and `last[k]`, which is just reachable from 0.
  `is_possible` is whether there are some for each k; if memory does not matter,
  all of them can then be part of a cut.
  """

  def __init__(
    self,
    problem: CutProblem,
    largest_cost: int,
    largest_memory: int | None = None,
  ):
    """Both bounds are inclusive, None is no bound."""
    self._problem = problem
    self._largest_cost = largest_cost
    self._memory_bounds: list[tuple[IntArray, int]] = []
    if largest_memory is not None:
      self._memory_bounds = [(problem.memory.floor_before, largest_memory)]
    self.last = [0]
    for k in range(problem.num_cells):
      start = self.last[-1]
      ends = [
        int(np.searchsorted(before, before[start] + most, 'right')) - 1
        for before, most in self._bounds(k)
      ]
      self.last.append(min(ends))
    self.first = [problem.num_layers]
    for k in reversed(range(problem.num_cells)):
      self.first.append(int(self.earliest_start(k, self.first[-1])))
    self.first.reverse()
    for k in range(problem.num_cells):  # No cell is empty.
      self.first[k + 1] = max(self.first[k + 1], self.first[k] + 1)
      self.last[-k - 2] = min(self.last[-k - 2], self.last[-k - 1] - 1)
    self.is_possible = all(
      first <= last for first, last in zip(self.first, self.last, strict=True)
    )

  def _bounds(self, cell: int) -> list[tuple[IntArray, int]]:
    costs = self._problem.cost_before(cell)
    return [(costs, self._largest_cost), *self._memory_bounds]

  def earliest_start(self, cell: int, ends: int | IntArray) -> IntArray:
    """The first position from which a cell reaches an end, or each end."""
    starts = [
      np.searchsorted(before, before[ends] - most, 'left')
      for before, most in self._bounds(cell)
    ]
    latest: IntArray = np.max(starts, axis=0)
    return latest


def least_largest_cost(problem: CutProblem) -> int:
  """The least cost that the largest cell can have if memory does not matter."""
  return bisect.bisect_left(
    range(problem.total_cost),
    True,
    key=lambda bound: Windows(problem, bound).is_possible,
  )
