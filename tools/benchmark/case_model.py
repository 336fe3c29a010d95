# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A case's layers, loss and data."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils

from lingvo_gpipe.models import amoebanet, losses, transformer
from tools.benchmark.cases import HEAD_DIM, Case

_SEED = 1
# What the names of variables with data begin with.
DATA = 'data'
# Smaller images would be next to nothing after a stem that halves them thrice.
_SMALL_IMAGE = 32
# Of weights of feed-forward layers.
_DEVIATION = 0.02


@dataclasses.dataclass(frozen=True)
class Field:
  """One tensor of a mini-batch, random numbers.

  Attributes:
    shape: Its shape behind the batch dimension.
    limit: Integers from 0 to below this; None for normal floats, 0 for ones.
  """

  shape: tuple[int, ...]
  limit: int | None = None

  @property
  def dtype(self) -> Any:
    return tf.int32 if self.limit else tf.float32

  def described(self, batch: int) -> str:
    """So many examples, as Params of shapes have it: 'float32[2,3]'."""
    return f'{self.dtype.name}[{",".join(map(str, (batch, *self.shape)))}]'

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

  def data(
    self, batch: int, step: Any, devices: Sequence[str], *, kept: bool = False
  ) -> tuple[Any, Any]:
    """A mini-batch of random numbers, made where they are used.

    What does not depend on `step`, an integer tensor, might be computed once
    and kept. If `kept`, variables start with the data, and every step has the
    same. `devices` are the first cell's and the last cell's.
    """
    step = tf.zeros_like(step) if kept else step

    def make(field: Field, seed: int, device: str) -> Any:
      with tf.device(device):
        data = field.tensor(batch, tf.stack([step, seed]))
        return variable(data) if kept else data

    targets = py_utils.NestedMap(
      {
        name: make(field, seed, devices[-1])
        for seed, (name, field) in enumerate(self.targets.items(), _SEED + 1)
      }
    )
    return make(self.inputs, _SEED, devices[0]), targets or None

  def target_shapes(self, batch: int) -> str:
    """The targets of so many examples, as Params of shapes have them."""
    return ', '.join(
      f'{name}={field.described(batch)}' for name, field in self.targets.items()
    )


def variable(data: Any) -> Any:
  """Reads a variable that starts as `data`."""
  return tf.Variable(data, trainable=False, name=DATA).read_value()


def make(case: Case, batch_norm: Any = None) -> CaseModel:
  """The model of a case, with another batch norm where it has one."""
  if case.model == 'amoebanet':
    return _amoebanet(case, batch_norm)
  if case.model == 'transformer':
    return _transformer(case)
  # An MLP, or bottlenecks.
  is_mlp = case.model == 'mlp'
  layer = FeedForward.Params().Set(
    input_dim=case.dim,
    hidden_dim=4 * case.dim if is_mlp else case.hidden_dim,
    output_dim=case.dim,
    has_bias=is_mlp,
  )
  layers = [layer.Copy().Set(name=f'l{i}') for i in range(case.num_layers)]
  if not is_mlp:
    layers[0].input_dim = case.input_dim
  return CaseModel(
    layers,
    MeanSquare.Params().Set(name='loss'),
    Field((layers[0].input_dim,)),
    {} if is_mlp else {'mean': Field(())},
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
    losses.ClassificationLoss.Params().Set(
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
    losses.LanguageModelLoss.Params().Set(name='loss'),
    Field(tokens, case.num_ids),
    {
      'labels': Field(tokens, case.num_ids),
      'weights': Field(tokens, 0),
      'bytes': Field(tokens, 0),
    },
  )


# -- Feed-forward layers.


class FeedForward(base_layer.BaseLayer):
  """W2 relu(W1 x), plus x where the widths agree, for x [batch, input_dim]."""

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define('input_dim', 0, 'The width of x.')
    p.Define('hidden_dim', 0, 'The width inside.')
    p.Define('output_dim', 0, 'The width of what it returns.')
    p.Define('has_bias', False, 'Whether b1 and b2 are added to the products.')
    p.params_init = py_utils.WeightInit.Gaussian(_DEVIATION)
    return p

  def __init__(self, params: Any):
    super().__init__(params)
    p = self.params
    shapes = {
      'w1': [p.input_dim, p.hidden_dim],
      'b1': [p.hidden_dim],
      'w2': [p.hidden_dim, p.output_dim],
      'b2': [p.output_dim],
    }
    for name, shape in shapes.items():
      if p.has_bias or len(shape) > 1:
        self.CreateVariable(name, py_utils.WeightParams(shape, p.params_init))

  def FProp(self, theta: Any, x: Any) -> Any:
    p = self.params
    y = tf.matmul(x, theta.w1)
    y = tf.nn.relu(y + theta.b1 if p.has_bias else y)
    y = tf.matmul(y, theta.w2)
    y = x + y if p.input_dim == p.output_dim else y
    return y + theta.b2 if p.has_bias else y


class MeanSquare(base_layer.BaseLayer):
  """A loss: the mean square of outputs [batch, dim], or of their means' errors.

  `targets.mean`, [batch], is then what each output's mean should be.
  """

  def FProp(self, theta: Any, outputs: Any, targets: Any) -> Any:
    del theta
    error = outputs
    if targets is not None:
      error = tf.reduce_mean(outputs, axis=-1) - targets.mean
    weight = tf.cast(tf.shape(outputs)[0], tf.float32)
    return {'loss': (tf.reduce_mean(tf.square(error)), weight)}
