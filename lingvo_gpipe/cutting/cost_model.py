# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a layer costs, as plain numbers, however they were found."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import TypeAlias

Number: TypeAlias = int | float | Fraction

# Two sums of costs of this many bits can be added in 64.
_COST_BITS = 60


@dataclasses.dataclass(frozen=True)
class LayerCost:
  """What one layer costs, for one micro-batch of the size it will run with.

  Attributes:
    name: For errors.
    forward: The time its forward takes, in any unit that all layers share.
    backward: The same for its backward, without recomputation.
    parameters: How many numbers its weights are.
    gradient_bytes: Of the sums of their gradients; None takes weight_bytes.
    optimizer_bytes: Of the optimizer's slots for them.
    activation_bytes: What is kept of its forward for a micro-batch: what its
      backward reads of inner tensors and outputs, and what those of other
      layers read of its outputs.
    transient_bytes: Of the other outputs, which only its tasks need.
    output_bytes: What it hands to the next layer for a micro-batch.
    weight_share: The share of `backward` that the gradients of its weights take
      if they are a task of their own, from 0 to 1; None: not known, half.
    has_backward: Whether the backward pass reaches it. It does not reach the
      first layers if nothing in them is trained.
  """

  name: str
  forward: Number = 0
  backward: Number = 0
  parameters: int = 0
  weight_bytes: int = 0
  gradient_bytes: int | None = None
  optimizer_bytes: int = 0
  activation_bytes: int = 0
  transient_bytes: int = 0
  output_bytes: int = 0
  weight_share: Number | None = None
  has_backward: bool = True

  def __post_init__(self) -> None:
    for name, value in vars(self).items():
      if name != 'name' and value is not None:
        check_number(f'{name} of layer {self.name!r}', value)

  @property
  def weight_gradient(self) -> Number:
    """The part of `backward` that is W, where the backward pass is in two."""
    share = Fraction(1, 2) if self.weight_share is None else self.weight_share
    return Fraction(self.backward) * Fraction(share)

  @property
  def gradient_sum_bytes(self) -> int:
    given = self.gradient_bytes
    return self.weight_bytes if given is None else given

  @property
  def state_bytes(self) -> int:
    """Bytes of weights, the sums of gradients and the optimizer's slots."""
    return self.weight_bytes + self.gradient_sum_bytes + self.optimizer_bytes

  def scaled(self, share: Fraction) -> 'LayerCost':
    """The cost for a micro-batch whose size is a share of this one."""
    return dataclasses.replace(
      self,
      forward=Fraction(self.forward) * share,
      backward=Fraction(self.backward) * share,
      activation_bytes=math.ceil(self.activation_bytes * share),
      transient_bytes=math.ceil(self.transient_bytes * share),
      output_bytes=math.ceil(self.output_bytes * share),
    )

  def time(self, num_recomputed: int, num_micro_batches: int) -> Fraction:
    """The mean time of a micro-batch, recomputation included.

    A layer without a backward pass counts as in a cell without one.
    """
    if not self.has_backward:
      return Fraction(self.forward)
    num_forwards = 1 + Fraction(num_recomputed, num_micro_batches)
    return num_forwards * Fraction(self.forward) + Fraction(self.backward)


def first_with_backward(layers: Sequence[LayerCost]) -> int:
  """The first layer with a backward pass; how many there are if none has."""
  trained = (i for i, layer in enumerate(layers) if layer.has_backward)
  return next(trained, len(layers))


def to_integers(costs: Sequence[Number]) -> list[int]:
  """Costs as integers in one common unit, for sums without rounding.

  All costs are multiplied by their denominators' least common multiple. If the
  sum then has more than 60 bits they are multiplied instead by the power of two
  that brings the sum to 60 bits, and rounded. So equal costs give equal
  integers. ValueError if a cost is negative or not finite.
  """
  for i, cost in enumerate(costs):
    check_number(f'Cost {i}', cost)
  exact = [Fraction(cost) for cost in costs]
  multiple = math.lcm(*(cost.denominator for cost in exact))
  total = sum(exact, Fraction(0))
  if total * multiple < 2**_COST_BITS:
    return [int(cost * multiple) for cost in exact]
  # The least e with total < 2**e, give or take one.
  bits = total.numerator.bit_length() - total.denominator.bit_length() + 1
  scale = Fraction(2) ** (_COST_BITS - bits)
  return [round(cost * scale) for cost in exact]


def check_number(what: str, value: Number) -> None:
  """Raises ValueError if a number is negative or not finite."""
  if not (math.isfinite(value) and value >= 0):
    raise ValueError(f'{what} is {value}; it must be finite and 0 or more.')


def prefix_sums(values: Iterable[int]) -> list[int]:
  """[0, v0, v0 + v1, ...]."""
  return list(itertools.accumulate(values, initial=0))
