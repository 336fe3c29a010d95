# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a layer finds in place of its variables while its cell is traced.

A traced cell takes values, not variables: a variable read inside would be read
again by each task, and one written inside would be written once for each
micro-batch and once more when the micro-batch is recomputed. A stand-in gives
its variable's value wherever TensorFlow wants a tensor, and notes what batch
norm's moving averages are to become.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import lingvo.compat as tf


@dataclasses.dataclass
class MovingAverageUpdate:
  """An update of a moving average by one micro-batch.

  Attributes:
    variable: The moving average.
    delta: What Lingvo would subtract from it: (variable - statistic) x
      (1 - decay), or 0 where that is not finite.
    statistic: The micro-batch's statistic.
  """

  variable: tf.Variable
  delta: tf.Tensor
  statistic: tf.Tensor


class VariableStandIn:
  """Stands for a variable: reads its value, notes its updates."""

  def __init__(
    self,
    variable: tf.Variable,
    read: Callable[[], tf.Tensor],
    updates: list[MovingAverageUpdate],
    owner: str,
  ):
    """Makes a stand-in.

    Args:
      variable: The variable.
      read: Returns its value, a tensor of the graph that is being traced.
      updates: Where to put updates of it.
      owner: The cell it is in, for messages.
    """
    self._variable = variable
    self._read = read
    self._updates = updates
    self._owner = owner
    self._value: tf.Tensor | None = None
    self._subtracted: Any = None

  def value(self) -> tf.Tensor:
    if self._value is None:
      self._value = self._read()
    return self._value

  read_value = value

  @property
  def name(self) -> str:
    return self._variable.name

  @property
  def dtype(self) -> tf.DType:
    return self.value().dtype

  @property
  def shape(self) -> tf.TensorShape:
    return self.value().shape

  def get_shape(self) -> tf.TensorShape:
    return self.shape

  @property
  def trainable(self) -> bool:
    return self._variable.trainable

  @property
  def device(self) -> str:
    return ''

  def __sub__(self, other: Any) -> tf.Tensor:
    # Lingvo computes a moving average's update as (variable - statistic) x
    # (1 - decay); the statistic itself is wanted too.
    self._subtracted = other
    return self.value() - other

  def assign_sub(
    self, delta: tf.Tensor, *unused_args: Any, **unused_kwargs: Any
  ) -> tf.Tensor:
    """Notes an update of a moving average."""
    if self._subtracted is None:
      self._refuse('assign_sub')
    delta = tf.identity(delta)
    self._updates.append(
      MovingAverageUpdate(
        self._variable, delta, tf.convert_to_tensor(self._subtracted)
      )
    )
    return delta

  def assign(self, *unused_args: Any, **unused_kwargs: Any) -> None:
    self._refuse('assign')

  def assign_add(self, *unused_args: Any, **unused_kwargs: Any) -> None:
    self._refuse('assign_add')

  def _refuse(self, method: str) -> None:
    raise ValueError(
      f'Cell {self._owner!r}: a layer calls {method}() on variable '
      f'{self._variable.name} in its FProp. In a pipeline that would happen '
      'once for each micro-batch, and again when it is recomputed. Keep the '
      'value in an accumulator (BaseLayer.RegisterAccumulator) and assign it '
      'in PostTrainingStepUpdate; moving averages can use '
      'py_utils.UpdateBatchNormVars.'
    )

  def __getattr__(self, name: str) -> Any:
    # Special names are looked up on the class; asking for one here is
    # somebody's test of what this is.
    if name.startswith('_'):
      raise AttributeError(name)
    return getattr(self.value(), name)


def _delegate(name: str) -> Callable[..., Any]:
  def operator(self: VariableStandIn, *args: Any) -> Any:
    return getattr(self.value(), name)(*args)

  return operator


for _name in (
  *('__radd__', '__rsub__', '__rmul__', '__rtruediv__', '__rfloordiv__'),
  *('__add__', '__mul__', '__truediv__', '__floordiv__', '__mod__'),
  *('__rmod__', '__pow__', '__rpow__', '__matmul__', '__rmatmul__'),
  *('__neg__', '__abs__', '__lt__', '__le__', '__gt__', '__ge__'),
  '__getitem__',
):
  setattr(VariableStandIn, _name, _delegate(_name))


def _to_tensor(
  stand_in: VariableStandIn,
  dtype: tf.DType | None = None,
  name: str | None = None,
  as_ref: bool = False,
) -> tf.Tensor:
  del as_ref
  value = stand_in.value()
  if dtype is not None and not dtype.is_compatible_with(value.dtype):
    raise ValueError(
      f'Variable {stand_in.name} is {value.dtype.name}, not {dtype.name}.'
    )
  return value if name is None else tf.identity(value, name=name)


tf.register_tensor_conversion_function(VariableStandIn, _to_tensor)
