# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a model's layers cost, for micro-batches of any size."""

import dataclasses
import math
from fractions import Fraction

from lingvo_gpipe.cutting.cost_model import LayerCost


@dataclasses.dataclass(frozen=True)
class ModelCosts:
  """The costs of a model's layers for one micro-batch.

  Attributes:
    layers: The layers, in order.
    examples: How many examples the micro-batch has.
    input_bytes: Bytes of the first layer's input.
  """

  layers: tuple[LayerCost, ...]
  examples: int
  input_bytes: int

  @property
  def parameters(self) -> int:
    """How many numbers the model's weights are."""
    return sum(layer.parameters for layer in self.layers)

  def with_examples(self, examples: int) -> 'ModelCosts':
    """The costs for a micro-batch of another size.

    Times and bytes of activations are taken in proportion to it: what a layer
    does once a micro-batch, however large, is little.

    Args:
      examples: How many examples it has.

    Raises:
      ValueError: It has none.
    """
    if examples < 1:
      raise ValueError(
        f'examples is {examples}; a micro-batch has at least one example.'
      )
    ratio = Fraction(examples, self.examples)
    return ModelCosts(
      layers=tuple(layer.scaled(ratio) for layer in self.layers),
      examples=examples,
      input_bytes=math.ceil(self.input_bytes * ratio),
    )
