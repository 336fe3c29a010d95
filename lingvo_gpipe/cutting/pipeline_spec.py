# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a sequence of layers is to be cut for."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from fractions import Fraction

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import memory_model
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_problem import CutProblem
from lingvo_gpipe.cutting.skips import Skip


@dataclasses.dataclass(frozen=True)
class PipelineSpec:
  """Devices, micro-batches and policies of a pipeline.

  Attributes:
    num_devices: D.
    cells_per_device: V. There are K = D V cells, cell k on device k mod D.
    num_micro_batches: M.
    micro_batch_size: Examples in a micro-batch of the size that the layers'
      bytes are for; None if it is not known. Only messages use it.
    schedule: A schedule's name.
    recompute: A recompute policy.
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
  input_bytes: int = 0
  device_memory: int | None = None
  skips: tuple[Skip, ...] = ()

  def __post_init__(self) -> None:
    schedules.check_recompute(self.recompute)
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
    return tuple(k % self.num_devices for k in range(self.num_cells))

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

  @functools.cached_property
  def num_recomputed(self) -> tuple[int, ...]:
    """How many micro-batches each cell recomputes."""
    return schedules.count_recomputed(
      self.schedule,
      self.cell_devices,
      self.num_micro_batches,
      self.recompute,
    )

  def layer_times(
    self, layers: Sequence[LayerCost], cell: int
  ) -> list[Fraction]:
    """What layers take for a micro-batch if they lie in a cell."""
    num_recomputed = self.num_recomputed[cell]
    return [
      layer.time(num_recomputed, self.num_micro_batches) for layer in layers
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
      Fraction(layer.forward) for layer in layers if not layer.has_backward
    )


def cell_memory(
  layers: Sequence[LayerCost], spec: PipelineSpec
) -> memory_model.CellMemory:
  """What runs of the layers need as cells of the pipeline."""
  stashed = memory_model.peak_stash(
    spec.schedule, spec.cell_devices, spec.num_micro_batches
  )
  return memory_model.CellMemory(
    layers,
    stashed,
    spec.recompute,
    num_micro_batches=spec.num_micro_batches,
    input_bytes=spec.input_bytes,
    skips=spec.skips,
  )


def spec_problem(
  layers: Sequence[LayerCost],
  spec: PipelineSpec,
  memory: memory_model.CellMemory,
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
    num_devices=spec.num_devices,
    last_costs=spec.layer_times(layers, last),
    memory=memory,
  )
