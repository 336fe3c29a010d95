# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the layers of the paper's models cost, for any micro-batches."""

import dataclasses
import math
from fractions import Fraction
from typing import Any

from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.partitioner import Partition


@dataclasses.dataclass(frozen=True)
class ModelCosts:
  """The costs of a model's layers for one micro-batch.

  Attributes:
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
    """
    ratio = Fraction(examples, self.examples)
    return ModelCosts(
      layers=tuple(layer.scaled(ratio) for layer in self.layers),
      examples=examples,
      input_bytes=math.ceil(self.input_bytes * ratio),
    )


def plan(model: str, **changes: Any) -> Partition:
  """All layers of a registered model in a cell; `changes` are of its Params.

  Each kind of layer is traced once; nothing is allocated.
  """
  from lingvo_gpipe import sequential_layer
  from lingvo_gpipe.planner import registered

  params = registered.layer_params(model)
  params.Set(num_partitions=1, splits=[], device_memory=0, **changes)
  found: Partition = sequential_layer.GPipeSequentialLayer.Plan(
    params, 1
  ).partition
  return found


def registered_costs(model: str, precision: str = '') -> ModelCosts:
  """What the layers of a registered model cost: FLOPs and bytes.

  Args:
    model: The name it is registered under.
    precision: The dtype of its activations, 'float32' or 'bfloat16'; '' is the
      model's own.
  """
  import lingvo.compat as tf

  dtype = {'fprop_dtype': tf.as_dtype(precision)} if precision else {}
  found = plan(model, balance='flops', **dtype)
  examples = found.spec.micro_batch_size
  assert examples is not None  # These models have input_shapes.
  return ModelCosts(found.layers, examples, found.spec.input_bytes)
