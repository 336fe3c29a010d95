# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a layer's weights need, in numbers and in bytes."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe.engine.tensor_specs import spec

# Optimizers keep float32, and gradients are summed in it at least.
_SLOT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class Weights:
  """The weights of a layer.

  Attributes:
    parameters: How many numbers are trained.
    weight_bytes: Bytes of all variables, also of those that are not trained.
    gradient_bytes: Bytes of the sums of gradients.
    theta: Specs of the layer's theta, a nest.
  """

  parameters: int
  weight_bytes: int
  gradient_bytes: int
  theta: Any

  def optimizer_bytes(self, slots: int) -> int:
    """Bytes of an optimizer that keeps `slots` numbers for each parameter."""
    return slots * _SLOT_BYTES * self.parameters


def weights_of(layer: Any) -> Weights:
  """The weights of a layer that has been built."""
  variables = unique(layer.vars.Flatten())
  sizes = [(math.prod(v.shape.as_list()), v) for v in variables]
  trained = [(size, v.dtype.size) for size, v in sizes if v.trainable]
  return Weights(
    parameters=sum(size for size, _ in trained),
    weight_bytes=sum(size * v.dtype.size for size, v in sizes),
    gradient_bytes=sum(s * max(size, _SLOT_BYTES) for s, size in trained),
    theta=tf.nest.map_structure(spec, layer.theta),
  )


def unique(variables: Iterable[tf.Variable]) -> list[tf.Variable]:
  """Variables in order, each once."""
  return list({id(v): v for v in variables}.values())
