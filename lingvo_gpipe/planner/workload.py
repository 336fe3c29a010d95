# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What there is to plan for: layers, their costs, and a mini-batch."""

import dataclasses
import math
from fractions import Fraction

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.partitioner import PipelineSpec, Skip

# The recompute policy of a model that lists the layers that it keeps.
AS_LISTED = 'as listed'
# How many numbers of micro-batches are considered if none are given.
_MOST_CHOICES = 8
# More micro-batches for each cell than this gain next to nothing.
_MOST_PER_CELL = 16


@dataclasses.dataclass(frozen=True)
class Setting:
  """A way to run a model; `recompute` is a policy, FIT or AS_LISTED."""

  num_devices: int
  num_micro_batches: int
  schedule: str
  recompute: str
  cells_per_device: int = 1

  @property
  def num_cells(self) -> int:
    return self.num_devices * self.cells_per_device

  def __str__(self) -> str:
    return (
      f'{self.schedule}, M = {self.num_micro_batches}, recompute '
      f'{self.recompute}'
    )


@dataclasses.dataclass(frozen=True)
class Workload:
  """A model and its mini-batch.

  M, schedule, recompute policy and micro-batch are those as registered.

  Attributes:
    layers: What its layers cost, for a micro-batch.
    input_bytes: Bytes of a micro-batch's input.
    skips: What layers take of earlier ones, for a micro-batch.
    basis: What the layers' times are: 'flops', 'measured' (seconds), 'params'
      or 'given'.
    micro_batch_size: Examples in a micro-batch; None if unknown.
    kept: Names of the layers that are kept, if `recompute` is AS_LISTED.
    schedules: The schedules to consider: without a loss in the pipeline
      GPipe's alone; otherwise all but 'auto', which takes long to find.
    min_examples: Smaller micro-batches are not worth looking at.
  """

  name: str
  layers: tuple[LayerCost, ...]
  input_bytes: int = 0
  skips: tuple[Skip, ...] = ()
  basis: str = 'flops'
  num_micro_batches: int = 1
  micro_batch_size: int | None = None
  schedule: str = 'gpipe'
  recompute: str = 'always'
  kept: frozenset[str] = frozenset()
  schedules: tuple[str, ...] = schedules.SCHEDULE_NAMES[:-1]
  knows_activations: bool = True
  min_examples: int = 1

  @property
  def mini_batch_size(self) -> int | None:
    size = self.micro_batch_size
    return None if size is None else self.num_micro_batches * size

  @property
  def parameters(self) -> int:
    return sum(layer.parameters for layer in self.layers)

  @property
  def one_device_cost(self) -> Fraction:
    """A step on one device without recomputation, in the layers' unit."""
    both = (Fraction(x.forward) + Fraction(x.backward) for x in self.layers)
    return self.num_micro_batches * sum(both, Fraction(0))

  def micro_batch(self, num_micro_batches: int) -> int | None:
    """Examples in each of M micro-batches; ValueError if they do not divide."""
    size = self.mini_batch_size
    if size is None:
      return None
    if num_micro_batches < 1 or size % num_micro_batches:
      raise ValueError(
        f'num_micro_batches {num_micro_batches} does not divide the '
        f'mini-batch of {size} examples; it may be one of '
        f'{", ".join(map(str, divisors(size)))}.'
      )
    return size // num_micro_batches

  def layers_for(self, num_micro_batches: int) -> tuple[LayerCost, ...]:
    """The layers' costs with the mini-batch in M micro-batches."""
    self.micro_batch(num_micro_batches)
    share = Fraction(self.num_micro_batches, num_micro_batches)
    return tuple(layer.scaled(share) for layer in self.layers)

  def spec(
    self, setting: Setting, device_memory: int | None = None
  ) -> PipelineSpec:
    """What the layers are cut for, with a limit in bytes."""
    is_listed = setting.recompute == AS_LISTED
    spec = PipelineSpec(
      num_devices=setting.num_devices,
      cells_per_device=setting.cells_per_device,
      num_micro_batches=self.num_micro_batches,
      micro_batch_size=self.micro_batch_size,
      schedule=setting.schedule,
      recompute='always' if is_listed else setting.recompute,
      kept=self.kept if is_listed else frozenset(),
      input_bytes=self.input_bytes,
      device_memory=device_memory,
      skips=self.skips,
    )
    return spec.with_micro_batches(setting.num_micro_batches)

  def choices(self, num_cells: int) -> tuple[int, ...]:
    """Up to 8 divisors of the mini-batch, and the registered M, ascending."""
    size = self.mini_batch_size
    if size is None:
      return (self.num_micro_batches,)
    most = _MOST_PER_CELL * num_cells
    enough = max(size // self.min_examples, 1)
    possible = [n for n in divisors(size) if n <= min(most, enough)]
    # Of many the ones nearest to powers of two, the largest first.
    near = [
      min(possible, key=lambda n: abs(math.log2(n) - power))
      for power in reversed(range(most.bit_length()))
    ]
    chosen = set(list(dict.fromkeys(near))[:_MOST_CHOICES])
    if self.num_micro_batches <= enough:
      chosen.add(self.num_micro_batches)
    return tuple(sorted(chosen))


def divisors(number: int) -> list[int]:
  """All divisors, ascending."""
  small = [i for i in range(1, math.isqrt(number) + 1) if number % i == 0]
  return sorted({*small, *(number // i for i in small)})
