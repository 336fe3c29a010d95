# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the layers of the paper's models cost, for any micro-batches."""

import dataclasses
import functools
import json
import math
import pathlib
from fractions import Fraction
from typing import Any

from lingvo_gpipe.cutting.cost_model import LayerCost


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

    Raises:
      ValueError: It has no examples.
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


@functools.cache
def registered_costs(model: str, precision: str = '') -> ModelCosts:
  """What the layers of a registered model cost: FLOPs and bytes.

  Each kind of layer is traced once; nothing is allocated. What was found is
  kept for the rest of the process.

  Args:
    model: The name it is registered under.
    precision: The dtype of its activations, 'float32' or 'bfloat16'; '' is the
      model's own.

  Raises:
    UserError: There is no such model, or it has no GPipeSequentialLayer.
  """
  import lingvo.compat as tf

  from lingvo_gpipe import sequential_layer
  from lingvo_gpipe.planner import plan_command

  params = plan_command.pipeline_params(model)
  params.Set(num_partitions=1, splits=[], device_memory=0, balance='flops')
  if precision:
    params.fprop_dtype = tf.as_dtype(precision)
  partition = sequential_layer.GPipeSequentialLayer.Plan(params, 1).partition
  examples = partition.spec.micro_batch_size
  assert examples is not None  # These models have input_shapes.
  return ModelCosts(partition.layers, examples, partition.spec.input_bytes)


class CostsFile:
  """Costs by model and precision, as JSON.

  Nothing in it says what the models were like: it is to be deleted when they
  change.
  """

  def __init__(self, path: str):
    """Reads the file, if there is one.

    Raises:
      ValueError: There is a file, but not one of costs.
    """
    self._path = pathlib.Path(path)
    self._known: dict[str, ModelCosts] = {}
    if not self._path.exists():
      return
    try:
      stored = json.loads(self._path.read_text(encoding='utf-8'))
      self._known = {key: _parsed(value) for key, value in stored.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
      raise ValueError(
        f'{path} is not a file of costs ({error}); delete it, or name another.'
      ) from error

  def get(self, model: str, precision: str) -> ModelCosts | None:
    """The costs of a model, if they are known."""
    return self._known.get(_key(model, precision))

  def add(self, model: str, precision: str, costs: ModelCosts) -> None:
    """Adds the costs of a model, and writes the file."""
    self._known[_key(model, precision)] = costs
    values = {
      key: dataclasses.asdict(value) for key, value in self._known.items()
    }
    # A program that is stopped leaves the old file or the new one.
    new = self._path.with_name(f'{self._path.name}.new')
    new.write_text(json.dumps(values), encoding='utf-8')
    new.replace(self._path)


def _key(model: str, precision: str) -> str:
  return f'{model} {precision}'.strip()


def _parsed(value: dict[str, Any]) -> ModelCosts:
  layers = tuple(LayerCost(**layer) for layer in value['layers'])
  return ModelCosts(layers, int(value['examples']), int(value['input_bytes']))
