# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Table 1 of the GPipe paper beside the planner's: parameters and memory.

All memory is that of all devices together, as in the paper. Its parameter
memory is 12 bytes a parameter, so gradients are no part of it; they are taken
here to be part of its "peak activation memory". So that is, by our model,

```
  stash: each cell's input, of all M micro-batches       (all examples)
+ activations of one micro-batch, made anew              (mini_batch / M)
+ gradients, 4 bytes a parameter
```

under fill-drain with recomputation. (This engine holds gradients twice: the
sums, and the newest before they are added.) The paper does not say which M it
used; for a model here it is M = 32, as it is registered.
"""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

from lingvo_gpipe.cutting import partitioner
from lingvo_gpipe.planner.model_costs import ModelCosts
from tools.paper import paper_facts

UNITS: Mapping[str, int] = {'GB': 10**9, 'GiB': 2**30}

NUM_MICRO_BATCHES = 32
_GRADIENT_BYTES = 4

# What counts as the same figure.
NEAR_PARAMETERS = 0.03
NEAR_ACTIVATIONS = 0.1


@dataclasses.dataclass(frozen=True)
class MemoryRow:
  """A model of Table 1 and what the planner says of it.

  Attributes:
    published: What is published.
    unit: 'GB' or 'GiB': what the paper's G is here.
    parameters: How many numbers its weights are.
    state_bytes: Bytes of this engine's weights, optimizer slots, sums of
      gradients and, if there are several micro-batches, the newest gradients.
    stash_bytes: What all cells keep of their inputs.
    activation_bytes: Activations of one micro-batch, of all cells; for Naive-1
      those of the mini-batch, and its input.
    near: A model of another size, and its parameters, that would explain the
      published parameter memory; None if none is known.
  """

  published: paper_facts.LargestModel
  unit: str
  parameters: int
  state_bytes: int
  stash_bytes: int
  activation_bytes: int
  near: tuple[str, int] | None = None

  @property
  def is_naive(self) -> bool:
    """Whether it is neither pipelined nor recomputed."""
    return self.published.setting == 'Naive-1'

  def in_unit(self, num_bytes: float) -> float:
    """Bytes in the unit."""
    return num_bytes / UNITS[self.unit]

  @property
  def parameter_difference(self) -> float:
    """By how much it has more parameters, as a share of the published."""
    return self.parameters / self.published.parameters - 1

  @property
  def parameter_memory(self) -> float:
    """12 bytes a parameter, in the unit."""
    return self.in_unit(paper_facts.BYTES_A_PARAMETER * self.parameters)

  @property
  def parameter_memory_difference(self) -> float:
    """By how much that is more than published, as a share of it."""
    return self.parameter_memory / self.published.memories[0] - 1

  @property
  def published_bytes_a_parameter(self) -> float:
    """The published parameter memory by the parameters counted here."""
    return self.published.memories[0] * UNITS[self.unit] / self.parameters

  @property
  def gradient_bytes(self) -> int:
    """Bytes of the gradients."""
    return _GRADIENT_BYTES * self.parameters

  @property
  def activation_memory(self) -> float:
    """Stash, activations and gradients, in the unit."""
    return self.in_unit(
      self.stash_bytes + self.activation_bytes + self.gradient_bytes
    )

  @property
  def activation_difference(self) -> float:
    """By how much that is more than published, as a share of it."""
    return self.activation_memory / self.published.memories[1] - 1

  @property
  def fitting_micro_batches(self) -> float | None:
    """The M with which the activation memory would be the published one."""
    rest = self.published.memories[1] * UNITS[self.unit]
    rest -= self.stash_bytes + self.gradient_bytes
    if self.is_naive or rest <= 0:
      return None
    return NUM_MICRO_BATCHES * self.activation_bytes / rest

  @property
  def published_device_memory(self) -> float:
    """Both published memories, as a share of the devices' together."""
    devices = self.published.num_devices * self.published.device_gigabytes
    return sum(self.published.memories) / devices


def memory_row(
  published: paper_facts.LargestModel,
  costs: ModelCosts,
  unit: str,
  near: tuple[str, int] | None = None,
) -> MemoryRow:
  """Plans a model of Table 1 as the paper ran it.

  Pipelines: cut by time, fill-drain, everything recomputed. Naive-1: one
  micro-batch, nothing recomputed.

  Args:
    published: What is published.
    costs: What its layers cost.
    unit: 'GB' or 'GiB'.
    near: See `MemoryRow`.
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
  cells = partitioner.partition(costs.layers, spec).cells
  stash = sum(cell.memory.stash for cell in cells)
  activations = sum(cell.memory.activations for cell in cells)
  return MemoryRow(
    published=published,
    unit=unit,
    parameters=costs.parameters,
    state_bytes=sum(
      cell.memory.state + cell.memory.new_gradients for cell in cells
    ),
    stash_bytes=0 if is_naive else stash,
    activation_bytes=stash + activations if is_naive else activations,
    near=near,
  )


def family_units(
  parameters: Mapping[str, int],
  table: Sequence[paper_facts.LargestModel] = paper_facts.TABLE_1,
) -> dict[str, str]:
  """For each family, the unit in which 12 bytes a parameter fit best.

  Args:
    parameters: The parameters of each model, by its registered name.
    table: Table 1; models without a count are left out.

  Returns:
    'GB' or 'GiB' by family: that with the smaller median of differences.
  """
  differences: dict[str, dict[str, list[float]]] = {}
  for column in table:
    if column.model not in parameters:
      continue
    for unit, size in UNITS.items():
      ours = paper_facts.BYTES_A_PARAMETER * parameters[column.model] / size
      differences.setdefault(column.family, {}).setdefault(unit, []).append(
        abs(ours / column.memories[0] - 1)
      )
  return {
    family: min(by_unit, key=lambda unit: statistics.median(by_unit[unit]))
    for family, by_unit in differences.items()
  }


def explain_parameters(row: MemoryRow) -> str:
  """Which bytes a parameter make the published parameter memory."""
  twelve = paper_facts.BYTES_A_PARAMETER
  if abs(row.parameter_memory_difference) <= NEAR_PARAMETERS:
    text = f'{twelve} bytes a parameter, in {row.unit}'
    if row.published.is_swapped:
      text += '; printed in the row of activation memory'
    return text
  text = (
    f'not explained: it is {row.published_bytes_a_parameter:.2f} bytes a '
    f'parameter in {row.unit}'
  )
  if row.near is not None:
    name, parameters = row.near
    ours = row.in_unit(twelve * parameters)
    difference = ours / row.published.memories[0] - 1
    if abs(difference) <= NEAR_PARAMETERS:
      text += (
        f'; {twelve} bytes for each of the {parameters:,} of {name} would be '
        f'{ours:.2f} ({difference:+.1%}), so it may be that model'
      )
  return text


def explain_activations(row: MemoryRow) -> str:
  """What makes the difference in peak activation memory."""
  if row.is_naive:
    return _explain_naive(row)
  near = abs(row.activation_difference) <= NEAR_ACTIVATIONS
  text = 'agrees with gradients counted' if near else 'M is not published'
  fitting = row.fitting_micro_batches
  if fitting is None:
    return f'{text}; gradients and stash alone are more'
  examples = row.published.mini_batch / fitting
  return (
    f'{text}; exact for micro-batches of {examples:.1f} (here '
    f'{row.published.mini_batch / NUM_MICRO_BATCHES:g})'
  )


def _explain_naive(row: MemoryRow) -> str:
  factor = row.activation_memory / row.published.memories[1]
  total = sum(row.published.memories)
  return (
    f'not explained: all tensors that TensorFlow keeps for the backward pass '
    f'of the mini-batch are {factor:.1f} times it. The published memories add '
    f'up to {total:.1f} of {row.published.device_gigabytes} GB: likely the '
    'compiler (XLA) fused and recomputed until the model fitted, or the batch '
    'was smaller'
  )
