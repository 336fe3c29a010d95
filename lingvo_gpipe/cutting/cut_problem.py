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
from lingvo_gpipe.cutting import cost_model, memory_model
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
    num_devices: D.
    cells_per_device: V. There are K = D V cells, on devices as the schedule
      wants them.
    num_micro_batches: M.
    micro_batch_size: Examples in a micro-batch of the size that the layers'
      bytes are for; None if it is not known. Only messages use it.
    schedule: A schedule's name.
    recompute: A recompute policy, or FIT.
    kept: Names of layers that are not recomputed, under 'always'.
    input_bytes: Bytes of the first layer's input for one micro-batch.
    device_memory: Bytes that each device may hold; None for no limit.
    skips: Values that layers take of earlier ones past those between.

  Raises:
    ValueError: A number is out of range, or a policy or schedule unknown.
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
    if self.recompute != schedules.FIT:
      schedules.check_recompute(self.recompute)
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

  @property
  def cell_devices(self) -> tuple[int, ...]:
    """The device of each cell."""
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

  @property
  def recompute_text(self) -> str:
    """What is recomputed, in words."""
    if not self.kept:
      return self.recompute
    return f'{self.recompute} except {len(self.kept)} kept layers'

  @functools.cached_property
  def num_recomputed(self) -> tuple[int, ...]:
    """How many micro-batches each cell recomputes."""
    return schedules.count_recomputed(
      self.schedule,
      self.cell_devices,
      self.num_micro_batches,
      self.policy,
    )

  def layer_times(
    self, layers: Sequence[LayerCost], cell: int
  ) -> list[Fraction]:
    """What layers take for a micro-batch if they lie in a cell."""
    num_recomputed = self.num_recomputed[cell]
    return [
      layer.time(
        0 if layer.name in self.kept else num_recomputed, self.num_micro_batches
      )
      for layer in layers
    ]

  def cell_cost(self, layers: Sequence[LayerCost], cell: int) -> Fraction:
    """What a cell takes for a micro-batch, recomputation included.

    Args:
      layers: The cell's layers.
      cell: Which cell it is.
    """
    cost = sum(self.layer_times(layers, cell), Fraction(0))
    if not layers[-1].has_backward:
      return cost
    # A cell that recomputes runs its first layers again, too.
    share = Fraction(self.num_recomputed[cell], self.num_micro_batches)
    return cost + share * sum(
      Fraction(layer.forward)
      for layer in layers
      if not layer.has_backward and layer.name not in self.kept
    )

  def forward_again(self, layers: Sequence[LayerCost]) -> Fraction:
    """What a cell takes to recompute a micro-batch."""
    return sum(
      (Fraction(x.forward) for x in layers if x.name not in self.kept),
      Fraction(0),
    )


def cell_memory(layers: Sequence[LayerCost], spec: PipelineSpec) -> CellMemory:
  """What runs of the layers need as cells of the pipeline."""
  stashed = memory_model.peak_stash(
    spec.schedule, spec.cell_devices, spec.num_micro_batches
  )
  handed = memory_model.peak_handed(
    spec.schedule, spec.cell_devices, spec.num_micro_batches
  )
  return CellMemory(
    layers,
    stashed,
    spec.policy,
    handed=handed,
    num_micro_batches=spec.num_micro_batches,
    input_bytes=spec.input_bytes,
    skips=spec.skips,
    kept=spec.kept,
  )


class CutProblem:
  """Layers as numbers.

  `starts` and `ends` are arrays of positions, an element for each cell.

  Attributes:
    num_cells: K, at most the number of layers.
    num_layers: N.
    cell_devices: The device of each cell.
    num_devices: D.
    memory: What a cell needs, or None if memory does not matter.
    total_cost: More than any cell can cost, or as much.
  """

  def __init__(
    self,
    costs: Sequence[cost_model.Number],
    num_cells: int,
    *,
    cell_devices: Sequence[int] | None = None,
    last_costs: Sequence[cost_model.Number] | None = None,
    memory: CellMemory | None = None,
  ):
    """Turns costs into integers.

    Args:
      costs: The cost of each layer. They become integers by
        `cost_model.to_integers`, so equal layers stay equal. If all are 0, each
        counts as 1.
      num_cells: K.
      cell_devices: See above; by default each cell has a device to itself.
      last_costs: The cost of each layer if it lies in the last cell, not above
        that in others; None if it is the same.
      memory: See `memory`.
    """
    self.num_cells = num_cells
    self.num_layers = len(costs)
    self.cell_devices = tuple(cell_devices or range(num_cells))
    self.num_devices = max(self.cell_devices) + 1
    self.memory = memory
    both = cost_model.to_integers([*costs, *(last_costs or costs)])
    in_most, in_last = both[: len(costs)], both[len(costs) :]
    if not any(in_most):
      in_most = in_last = [1] * len(costs)
    assert all(a <= b for a, b in zip(in_last, in_most, strict=True))
    # The divisor leaves a bit for what rounding adds.
    shift = max(0, sum(in_most).bit_length() - (_SQUARED_BITS - 1))
    self._costs_before = [_sums(in_most, 0), _sums(in_last, 0)]
    self._coarse_before = [_sums(in_most, shift), _sums(in_last, shift)]
    self.total_cost = int(self._costs_before[0][-1])

  def cost_before(self, cell: int) -> IntArray:
    """[N + 1], for each position the cost, in a cell, of all layers before."""
    return self._costs_before[cell == self.num_cells - 1]

  def cost(self, cell: int, starts: IntArray, ends: IntArray) -> IntArray:
    """What each cell costs."""
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
    """Bytes that each cell needs if it has a device to itself."""
    assert self.memory is not None
    held, transient = self.memory.parts(cell, starts, ends)
    return held + transient

  def crossing_bytes(
    self, cell: int, starts: IntArray, ends: IntArray
  ) -> IntArray:
    """Bytes that each cell is given, as if all cells were on other devices."""
    del cell
    if self.num_devices == 1:
      return np.zeros_like(starts)
    assert self.memory is not None
    return self.memory.input_bytes(starts, ends)


def _sums(values: Sequence[int], shift: int) -> IntArray:
  """Sums of the values before each position, divided by a power of two."""
  half = 1 << shift >> 1
  rounded = ((value + half) >> shift for value in values)
  return np.array(cost_model.prefix_sums(rounded), np.int64)


def spec_problem(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  memory: CellMemory,
) -> CutProblem:
  """The layers as numbers.

  Args:
    layers: The layers.
    spec: What they are cut for.
    memory: What cells need.
  """
  last = spec.num_cells - 1
  return CutProblem(
    spec.layer_times(layers, 0),
    spec.num_cells,
    cell_devices=spec.cell_devices,
    last_costs=spec.layer_times(layers, last),
    memory=memory,
  )


class Windows:
  """Which positions cells can meet at, within bounds.

  The bounds are on sums over a cell's layers: its cost, and what its memory
  cannot be below. A cell beyond one is out, and so is any longer one. So the
  positions at which cells k - 1 and k can meet lie between `first[k]`, from
  which the last position is just reachable, and `last[k]`, which is just
  reachable from 0.

  Attributes:
    first: [K + 1], the first position that k cells can end at.
    last: [K + 1], the last one.
    is_possible: Whether there are such positions for each k. If memory does
      not matter, all of them can then be part of a cut.
  """

  def __init__(
    self,
    problem: CutProblem,
    largest_cost: int,
    largest_memory: int | None = None,
  ):
    """Finds the windows; both bounds are inclusive, None is no bound."""
    self._problem = problem
    self._largest_cost = largest_cost
    self._memory_bounds: list[tuple[IntArray, int]] = []
    if largest_memory is not None:
      assert problem.memory is not None
      self._memory_bounds = [(problem.memory.floor_before, largest_memory)]
    num_cells, num_layers = problem.num_cells, problem.num_layers
    self.last = [0]
    for k in range(num_cells):
      start = self.last[-1]
      self.last.append(
        min(
          int(np.searchsorted(before, before[start] + most, 'right')) - 1
          for before, most in self._bounds(k)
        )
      )
    self.first = [num_layers]
    for k in reversed(range(num_cells)):
      self.first.append(int(self.earliest_start(k, self.first[-1])))
    self.first.reverse()
    for k in range(num_cells):  # No cell is empty.
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


def least_largest_floor(problem: CutProblem) -> int:
  """What the cell with the largest memory needs at least, in any cut."""
  assert problem.memory is not None
  return bisect.bisect_left(
    range(int(problem.memory.floor_before[-1])),
    True,
    key=lambda b: Windows(problem, problem.total_cost, b).is_possible,
  )
