# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A case's layers, loss and data."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils

from lingvo_gpipe.models import (
  amoebanet,
  classification_loss,
  language_model_loss,
  transformer,
)
from tools.benchmark import layers
from tools.benchmark.cases import HEAD_DIM, Case

_SEED = 1
# Smaller images would be next to nothing after a stem that halves them thrice.
_SMALL_IMAGE = 32


@dataclasses.dataclass(frozen=True)
class Field:
  """One tensor of a mini-batch: random numbers of the same kind everywhere.

  Attributes:
    shape: Its shape behind the batch dimension.
    limit: Integers from 0 to below this; None for normal floats, 0 for ones.
  """

  shape: tuple[int, ...]
  limit: int | None = None

  @property
  def dtype(self) -> Any:
    return tf.int32 if self.limit else tf.float32

  def array(self, batch: int, random: np.random.RandomState) -> np.ndarray:
    """A mini-batch, always the same for the same state of `random`."""
    shape = (batch, *self.shape)
    if self.limit is None:
      return random.standard_normal(shape).astype(np.float32)
    if not self.limit:
      return np.ones(shape, np.float32)
    return random.randint(self.limit, size=shape).astype(np.int32)

  def tensor(self, batch: int, seed: Any) -> Any:
    """A mini-batch that the graph makes: no copy of it is in the graph."""
    shape = (batch, *self.shape)
    if self.limit is None:
      return tf.random.stateless_normal(shape, seed)
    if not self.limit:
      return tf.ones(shape)
    return tf.random.stateless_uniform(shape, seed, 0, self.limit, tf.int32)


@dataclasses.dataclass(frozen=True)
class CaseModel:
  """What a case trains, for any engine.

  Attributes:
    layers: Params of its layers, in order.
    loss: Params of the loss layer: FProp(theta, outputs, targets).
    inputs: The first layer's argument.
    targets: The loss's targets, by name; none for None.
  """

  layers: list[Any]
  loss: Any
  inputs: Field
  targets: dict[str, Field] = dataclasses.field(default_factory=dict)

  def data(self, batch: int) -> tuple[Any, Any, Any]:
    """A tensor and a nest of targets that every step has anew, and an op.

    From tf.data: TensorFlow would compute ahead with a constant.

    Returns:
      (inputs, targets, an op to run before the first step).
    """
    random = np.random.RandomState(_SEED)
    arrays = {'inputs': self.inputs.array(batch, random)}
    for name, field in self.targets.items():
      arrays[name] = field.array(batch, random)
    dataset = tf.data.Dataset.from_tensors(arrays).repeat()
    iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
    tensors = iterator.get_next()
    inputs = tensors.pop('inputs')
    return inputs, self._nest(tensors), iterator.initializer

  def generated_data(
    self, batch: int, step: Any, devices: Sequence[str], *, kept: bool = False
  ) -> tuple[Any, Any]:
    """The same from random numbers, made where they are used.

    Args:
      batch: Examples.
      step: An integer tensor; what does not depend on it might be computed
        once and kept.
      devices: The first cell's and the last cell's.
      kept: Whether variables start with them, and every step has the same.

    Returns:
      (inputs, targets).
    """
    step = tf.zeros_like(step) if kept else step

    def make(field: Field, seed: int) -> Any:
      data = field.tensor(batch, tf.stack([step, seed]))
      return variable(data) if kept else data

    with tf.device(devices[0]):
      inputs = make(self.inputs, _SEED)
    with tf.device(devices[-1]):
      tensors = {
        name: make(field, _SEED + i + 1)
        for i, (name, field) in enumerate(self.targets.items())
      }
    return inputs, self._nest(tensors)

  def input_shapes(self, batch: int) -> str:
    """The input of so many examples, as pipelines are told of it."""
    shape = ','.join(map(str, (batch, *self.inputs.shape)))
    return f'{self.inputs.dtype.name}[{shape}]'

  def target_shapes(self, batch: int) -> str:
    """The same for the targets."""
    return ', '.join(
      f'{name}={field.dtype.name}[{",".join(map(str, (batch, *field.shape)))}]'
      for name, field in self.targets.items()
    )

  def _nest(self, tensors: dict[str, Any]) -> Any:
    return py_utils.NestedMap(tensors) if tensors else None


def variable(data: Any) -> Any:
  """Reads a variable that starts as `data`."""
  return tf.Variable(data, trainable=False, name='data').read_value()


def make(case: Case, batch_norm: Any = None) -> CaseModel:
  """The model of a case.

  Args:
    case: The case.
    batch_norm: Params of another batch norm, for models that have one.
  """
  if case.model == 'amoebanet':
    return _amoebanet(case, batch_norm)
  return _MAKE[case.model](case)


def _feed_forward(i: int, *widths: int, has_bias: bool) -> Any:
  input_dim, hidden_dim, output_dim = widths
  return layers.FeedForward.Params().Set(
    name=f'l{i}',
    input_dim=input_dim,
    hidden_dim=hidden_dim,
    output_dim=output_dim,
    has_bias=has_bias,
  )


def _mlp(case: Case) -> CaseModel:
  widths = case.dim, 4 * case.dim, case.dim
  return CaseModel(
    [_feed_forward(i, *widths, has_bias=True) for i in range(case.num_layers)],
    layers.MeanSquare.Params().Set(name='loss'),
    Field((case.dim,)),
  )


def _bottleneck(case: Case) -> CaseModel:
  inputs = [case.input_dim] + [case.dim] * (case.num_layers - 1)
  return CaseModel(
    [
      _feed_forward(i, width, case.hidden_dim, case.dim, has_bias=False)
      for i, width in enumerate(inputs)
    ],
    layers.MeanSquare.Params().Set(name='loss'),
    Field((case.input_dim,)),
    {'mean': Field(())},
  )


def _amoebanet(case: Case, batch_norm: Any) -> CaseModel:
  network = amoebanet.AmoebaNetParams().Set(
    num_normal_cells=case.num_layers, dim=case.dim, num_classes=case.num_ids
  )
  side = case.example_size
  if side < _SMALL_IMAGE:
    network.Set(stem_stride=1, num_stem_reductions=0)
  if batch_norm is not None:
    network.batch_norm = batch_norm
  return CaseModel(
    amoebanet.AmoebaNetLayers(network),
    classification_loss.ClassificationLoss.Params().Set(
      name='loss', num_classes=case.num_ids
    ),
    Field((side, side, 3)),
    {'label': Field((), case.num_ids), 'weight': Field((), 0)},
  )


def _transformer(case: Case) -> CaseModel:
  network = transformer.TransformerParams().Set(
    vocab_size=case.num_ids,
    num_layers=case.num_layers,
    model_dim=case.dim,
    hidden_dim=4 * case.dim,
    num_heads=max(1, case.dim // HEAD_DIM),
    packed=False,
    dropout=case.dropout,
  )
  tokens = (case.example_size,)
  return CaseModel(
    transformer.TransformerLayers(network),
    language_model_loss.LanguageModelLoss.Params().Set(name='loss'),
    Field(tokens, case.num_ids),
    {
      'labels': Field(tokens, case.num_ids),
      'weights': Field(tokens, 0),
      'bytes': Field(tokens, 0),
    },
  )


_MAKE = {
  'mlp': _mlp,
  'bottleneck': _bottleneck,
  'transformer': _transformer,
}
