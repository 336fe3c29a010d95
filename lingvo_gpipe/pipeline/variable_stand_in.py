# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a layer finds in place of its variables while its cell is traced.

A stand-in gives its variable's value wherever TensorFlow wants a tensor, and
notes how batch norm would update its moving averages. They are updated once a
mini-batch, outside, by the micro-batches' mean, weighted by their sizes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.engine import micro_batches
from lingvo_gpipe.engine.micro_batches import Context
from lingvo_gpipe.engine.tensors import on_device


@dataclasses.dataclass
class MovingAverageUpdate:
  """An update of a moving average by one micro-batch.

  `delta` is what Lingvo would subtract: (variable - statistic) x (1 - decay),
  or 0 where that is not finite.
  """

  variable: tf.Variable
  delta: tf.Tensor
  statistic: tf.Tensor


@dataclasses.dataclass(eq=False)
class VariableStandIn:
  """Stands for a variable of a cell; `read` gives its value in the trace."""

  variable: tf.Variable
  read: Callable[[], tf.Tensor]
  updates: list[MovingAverageUpdate]
  owner: str
  _value: tf.Tensor | None = None
  _subtracted: Any = None

  def value(self) -> tf.Tensor:
    if self._value is None:
      self._value = self.read()
    return self._value

  read_value = value

  @property
  def name(self) -> str:
    return self.variable.name

  @property
  def trainable(self) -> bool:
    return self.variable.trainable

  @property
  def device(self) -> str:
    return ''

  def __sub__(self, other: Any) -> tf.Tensor:
    # The statistic in Lingvo's (variable - statistic) x (1 - decay).
    self._subtracted = other
    return self.value() - other

  def assign_sub(
    self, delta: tf.Tensor, *unused_args: Any, **unused_kwargs: Any
  ) -> tf.Tensor:
    if self._subtracted is None:
      self._refuse('assign_sub')
    delta = tf.identity(delta)
    statistic = tf.convert_to_tensor(self._subtracted)
    self.updates.append(MovingAverageUpdate(self.variable, delta, statistic))
    return delta

  def assign(self, *unused_args: Any, **unused_kwargs: Any) -> None:
    self._refuse('assign')

  def assign_add(self, *unused_args: Any, **unused_kwargs: Any) -> None:
    self._refuse('assign_add')

  def _refuse(self, method: str) -> None:
    raise ValueError(
      f'Cell {self.owner!r}: a layer calls {method}() on variable '
      f'{self.name} in its FProp. In a pipeline that would happen once for '
      'each micro-batch, and again when it is recomputed. Keep the value in an '
      'accumulator (BaseLayer.RegisterAccumulator) and assign it in '
      'PostTrainingStepUpdate; moving averages can use '
      'py_utils.UpdateBatchNormVars.'
    )

  def __getattr__(self, name: str) -> Any:
    # Special names are looked up on the class: this is somebody's test.
    if name.startswith('_'):
      raise AttributeError(name)
    return getattr(self.value(), name)


def _delegate(name: str) -> Callable[..., Any]:
  return lambda self, *args: getattr(self.value(), name)(*args)


for _name in tf.Tensor.OVERLOADABLE_OPERATORS - {'__eq__', '__ne__', '__sub__'}:
  setattr(VariableStandIn, _name, _delegate(_name))


def _to_tensor(
  stand_in: VariableStandIn,
  dtype: tf.DType | None = None,
  name: str | None = None,
  as_ref: bool = False,
) -> tf.Tensor:
  del as_ref
  return tf.convert_to_tensor(stand_in.value(), dtype, name=name)


tf.register_tensor_conversion_function(VariableStandIn, _to_tensor)


def pack(
  updates: Sequence[MovingAverageUpdate], context: Context
) -> list[tf.Tensor]:
  """Deltas, and statistics, as vectors, weighted by the share of examples."""
  dtype = tf.float32
  if any(u.delta.dtype == tf.float64 for u in updates):
    dtype = tf.float64
  share = tf.cast(context.share, dtype)
  vectors = []
  for parts in ([u.delta for u in updates], [u.statistic for u in updates]):
    flat = [tf.reshape(tf.cast(part, dtype), [-1]) for part in parts]
    vectors.append(tf.stop_gradient(share * tf.concat(flat, axis=0)))
  return vectors


def update(
  updates: Sequence[MovingAverageUpdate],
  packed: Sequence[Sequence[tf.Tensor]],
  device: str,
) -> list[tf.Tensor]:
  """Updates a cell's moving averages by what `pack` gave for micro-batches.

  Returns the mini-batch's statistics, on which the loss is to depend: Lingvo
  drops updates whose statistic it does not find before the loss.
  """
  sizes = [u.delta.shape.num_elements() for u in updates]
  with on_device(device):
    deltas, statistics = (
      tf.split(vector, sizes)
      for vector in micro_batches.sum_in_order('moving_averages', packed)
    )
  for noted, delta, statistic in zip(updates, deltas, statistics, strict=True):
    variable = noted.variable
    with on_device(device):
      delta = tf.reshape(delta, noted.delta.shape.as_list())
      delta = tf.cast(delta, variable.dtype.base_dtype)
    with on_device(variable.device):
      assigned = tf.assign_sub(variable, delta)
    tf.add_to_collection(py_utils.BATCH_NORM_UPDATES, assigned)
    if not tf.executing_eagerly_outside_functions():
      registered = py_utils._get_batch_norm_updates_dict()
      registered[assigned.name] = (variable, statistic)
  return list(statistics)
