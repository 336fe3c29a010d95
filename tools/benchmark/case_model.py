# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A case's layers, loss and data."""

import dataclasses
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
from tools.benchmark import residual_mlp
from tools.benchmark.cases import Case

_NUM_CLASSES = 10
_VOCAB_SIZE = 1024
_HEAD_DIM = 16
_SEED = 1


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

  def data(self, batch: int) -> tuple[Any, Any]:
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

  def generated_data(self, batch: int, step: Any, devices: list[str]) -> Any:
    """The same from random numbers of each step, made where they are used.

    Args:
      batch: Examples.
      step: An integer tensor.
      devices: The first cell's and the last cell's.
    """
    with tf.device(devices[0]):
      inputs = self.inputs.tensor(batch, tf.stack([step, _SEED]))
    with tf.device(devices[-1]):
      tensors = {
        name: field.tensor(batch, tf.stack([step, _SEED + i + 1]))
        for i, (name, field) in enumerate(self.targets.items())
      }
    return inputs, self._nest(tensors), tf.no_op()

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


def make(case: Case, batch_norm: Any = None) -> CaseModel:
  """The model of a case.

  Args:
    case: The case.
    batch_norm: Params of another batch norm, for models that have one.
  """
  return _MAKE[case.model](case, batch_norm)


def _mlp(case: Case, batch_norm: Any) -> CaseModel:
  del batch_norm
  return CaseModel(
    [
      residual_mlp.ResidualLayer.Params().Set(name=f'l{i}', dim=case.dim)
      for i in range(case.num_layers)
    ],
    residual_mlp.MeanSquare.Params().Set(name='loss'),
    Field((case.dim,)),
  )


def _amoebanet(case: Case, batch_norm: Any) -> CaseModel:
  """For small images: the stem keeps their size, reductions halve it twice."""
  network = amoebanet.AmoebaNetParams().Set(
    num_normal_cells=case.num_layers,
    dim=case.dim,
    num_classes=_NUM_CLASSES,
    stem_stride=1,
    num_stem_reductions=0,
  )
  if batch_norm is not None:
    network.batch_norm = batch_norm
  side = case.example_size
  return CaseModel(
    amoebanet.AmoebaNetLayers(network),
    classification_loss.ClassificationLoss.Params().Set(
      name='loss', num_classes=_NUM_CLASSES
    ),
    Field((side, side, 3)),
    {'label': Field((), _NUM_CLASSES), 'weight': Field((), 0)},
  )


def _transformer(case: Case, batch_norm: Any) -> CaseModel:
  del batch_norm
  network = transformer.TransformerParams().Set(
    vocab_size=_VOCAB_SIZE,
    num_layers=case.num_layers,
    model_dim=case.dim,
    hidden_dim=4 * case.dim,
    num_heads=max(1, case.dim // _HEAD_DIM),
    packed=False,
  )
  tokens = (case.example_size,)
  return CaseModel(
    transformer.TransformerLayers(network),
    language_model_loss.LanguageModelLoss.Params().Set(name='loss'),
    Field(tokens, _VOCAB_SIZE),
    {
      'labels': Field(tokens, _VOCAB_SIZE),
      'weights': Field(tokens, 0),
      'bytes': Field(tokens, 0),
    },
  )


_MAKE = {'mlp': _mlp, 'amoebanet': _amoebanet, 'transformer': _transformer}
