# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Table 1 of the GPipe paper next to the planner's: parameters and memory.

All memory is that of all devices together, as in the paper. Its "peak
activation memory" is taken to be, under fill-drain with recomputation,

  stash: each cell's input, of all M micro-batches       (all examples)
+ activations of one micro-batch, made anew              (mini_batch / M)
+ gradients, 4 bytes a parameter, of which its parameter memory has none

The paper does not say which M it used; for a model here it is M = 32.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from lingvo_gpipe.cutting import partitioner, step_time
from tools.paper import facts
from tools.paper.model_costs import ModelCosts

UNITS: Mapping[str, int] = {'GB': 10**9, 'GiB': 2**30}

NUM_MICRO_BATCHES = 32
# Other ways to run a pipeline in the memory that fill-drain needs at least.
OTHER_WAYS = (('gpipe', 'fit'), ('1f1b', 'always'), ('1f1b', 'fit'))
_GRADIENT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class MemoryRow:
  """A model of Table 1 and what the planner says of it.

  Attributes:
    unit: 'GB' or 'GiB': what the paper's G is here.
    state_bytes: Bytes of this engine's weights, optimizer slots, sums of
      gradients and, if there are several micro-batches, the newest gradients.
    stash_bytes: What all cells keep of their inputs.
    activation_bytes: Activations of one micro-batch, of all cells; for Naive-1
      those of the mini-batch, and its input.
    device_bytes: What the fullest device needs.
    steps: The time of a step in each of OTHER_WAYS on devices that hold no
      more, over that of fill-drain; none for Naive-1.
  """

  published: facts.LargestModel
  unit: str
  parameters: int
  state_bytes: int
  stash_bytes: int
  activation_bytes: int
  device_bytes: int
  steps: tuple[float, ...]

  @property
  def gradient_bytes(self) -> int:
    return _GRADIENT_BYTES * self.parameters

  @property
  def memories(self) -> tuple[float, float]:
    """Parameters; stash, activations and gradients: in the unit."""
    activations = self.stash_bytes + self.activation_bytes + self.gradient_bytes
    parameters = facts.BYTES_A_PARAMETER * self.parameters
    return self.in_unit(parameters), self.in_unit(activations)

  def in_unit(self, num_bytes: float) -> float:
    return num_bytes / UNITS[self.unit]


def memory_row(
  published: facts.LargestModel, costs: ModelCosts, unit: str
) -> MemoryRow:
  """Plans a model of Table 1 as the paper ran it.

  Pipelines: cut by time, fill-drain, everything recomputed. Naive-1: one
  micro-batch, nothing recomputed.
  """
  is_naive = published.setting == 'Naive-1'
  num_micro_batches = 1 if is_naive else NUM_MICRO_BATCHES
  costs = costs.with_examples(published.mini_batch // num_micro_batches)
  spec = partitioner.PipelineSpec(
    num_devices=published.num_devices,
    num_micro_batches=num_micro_batches,
    schedule='gpipe',
    recompute='never' if is_naive else 'always',
    input_bytes=costs.input_bytes,
  )
  cut = partitioner.partition(costs.layers, spec)
  needs = [cell.memory for cell in cut.cells]
  stash = sum(need.stash for need in needs)
  activations = sum(need.activations for need in needs)
  return MemoryRow(
    published=published,
    unit=unit,
    parameters=costs.parameters,
    state_bytes=sum(need.state + need.new_gradients for need in needs),
    stash_bytes=0 if is_naive else stash,
    activation_bytes=stash + activations if is_naive else activations,
    device_bytes=max(cut.device_memory),
    steps=() if is_naive else _steps(cut),
  )


def _steps(cut: partitioner.Partition) -> tuple[float, ...]:
  """Times of a step in OTHER_WAYS and the same memory, over that of a cut."""
  limit = max(cut.device_memory)
  cuts = [cut]
  for schedule, recompute in OTHER_WAYS:
    spec = dataclasses.replace(
      cut.spec, schedule=schedule, recompute=recompute, device_memory=limit
    )
    cuts.append(partitioner.partition(cut.layers, spec))
  first, *others = (
    step_time.step_time([cell.layers for cell in one.cells], one.spec)
    for one in cuts
  )
  return tuple(time / first for time in others)


def family_units(
  parameters: Mapping[str, int],
  table: Sequence[facts.LargestModel] = facts.TABLE_1,
) -> dict[str, str]:
  """For each family, 'GB' or 'GiB', by the smaller median of differences.

  Models without `parameters`, by their registered names, are left out.
  """
  table = [column for column in table if column.model in parameters]

  def difference(family: str, unit: str) -> float:
    size = facts.BYTES_A_PARAMETER / UNITS[unit]
    return statistics.median(
      abs(size * parameters[column.model] / column.memories[0] - 1)
      for column in table
      if column.family == family
    )

  return {
    family: min(UNITS, key=lambda unit: difference(family, unit))
    for family in {column.family for column in table}
  }
