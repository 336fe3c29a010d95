# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers that pass values to later layers, or use the weights of others.

A layer declares in its Params which values it puts aside and takes, and whose
weights it uses. So a pipeline can check this before anything is built, and
sends each value directly to the device that takes it.

```
  conv --> PutLayer('a') --> ... --> TakeLayer('a', concat) --> conv
                  '---------------------^
```
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer

from lingvo_gpipe.pipeline import named_values
from lingvo_gpipe.pipeline.feature_extraction_layer import describe

COMBINE = ('add', 'concat', 'append')


class NamedValueLayer(base_layer.BaseLayer):
  """Base class of layers that put or take named values, or share weights.

  A subclass calls `Put` and `Take` in its FProp, and finds the weights of
  `weights_of` in its theta. Outside a pipeline, the layers must run inside a
  `named_values.scope`, and `tied_weights.tie` adds the weights to theta.
  """

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define('puts', [], 'Names of the values that the layer puts aside.')
    p.Define(
      'takes',
      [],
      'Names of the values that the layer takes: put aside by earlier layers, '
      'or side inputs of the pipeline.',
    )
    p.Define(
      'weights_of',
      {},
      'Tied weights, as {name: layer}: theta[name] is the theta of that layer '
      "of the same pipeline; 'layer.a.b' for the part a.b of it.",
    )
    return p

  @classmethod
  def NamedValues(cls, p: Any) -> named_values.Declaration:
    return named_values.Declaration(p.puts, p.takes, p.weights_of)

  def Put(self, name: str, value: Any) -> Any:
    return named_values.current_scope().put(name, value)

  def Take(self, name: str) -> Any:
    return named_values.current_scope().take(name)


class PutLayer(NamedValueLayer):
  """Returns its arguments, and puts one of them, or all, aside."""

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define(
      'argument',
      None,
      'Which argument to put aside, from 0; None for all, as a tuple if there '
      'are several.',
    )
    return p

  def __init__(self, params: Any):
    super().__init__(params)
    p = self.params
    if len(p.puts) != 1:
      raise ValueError(
        f'{p.name} is a PutLayer: puts must have one name, it has {p.puts}.'
      )

  def FProp(self, theta: Any, *args: Any) -> Any:
    """Puts a value aside; returns the arguments, one alone not as a tuple."""
    [name] = self.params.puts
    argument = self.params.argument
    if argument is None:
      return self.Put(name, _OneOrTuple(args))
    if not 0 <= argument < len(args):
      raise ValueError(
        f'{self.path}.params.argument is {argument}, but the layer is given '
        f'{len(args)} arguments.'
      )
    put = self.Put(name, args[argument])
    return _OneOrTuple([*args[:argument], put, *args[argument + 1 :]])


class TakeLayer(NamedValueLayer):
  """Takes values, and combines them with its first argument."""

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define(
      'combine',
      'add',
      f'How, one of {COMBINE}: add to the first argument, concatenate after it '
      'along axis, or append as further outputs.',
    )
    p.Define('axis', -1, 'The axis along which to concatenate.')
    return p

  def __init__(self, params: Any):
    super().__init__(params)
    p = self.params
    if p.combine not in COMBINE:
      raise ValueError(
        f'{p.name}.combine is {p.combine!r}; it must be one of {COMBINE}.'
      )
    if not p.takes:
      raise ValueError(f'{p.name} is a TakeLayer: takes must have a name.')

  def FProp(self, theta: Any, *args: Any) -> Any:
    p = self.params
    values = [self.Take(name) for name in p.takes]
    if p.combine == 'append':
      return _OneOrTuple([*args, *values])
    first, *others = args
    try:
      if p.combine == 'concat':
        first = tf.concat([first, *values], axis=p.axis)
      else:
        first = functools.reduce(operator.add, values, first)
    except (TypeError, ValueError) as error:
      raise ValueError(
        f'{self.path} cannot {p.combine} {list(p.takes)}, {describe(values)}, '
        f'to {describe(args[0])}: {error}'
      ) from error
    return _OneOrTuple([first, *others])


class WithNamedValues(NamedValueLayer):
  """Gives any layer named values as arguments and outputs.

  ```
    arguments ---------> body(*arguments, *takes, **keywords) --> outputs
    values of takes -----^                    ^                     |
    values of keywords -----------------------'        put aside: puts[i] is
                                                       output i
  ```

  Weights of `weights_of` are added to the body's theta. The body's variables
  are named as without this layer; for `weights_of` of others it is 'name.body'.
  """

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define('body', None, 'Params of the layer.')
    p.Define(
      'keywords',
      {},
      'Values to take as keyword arguments, as {argument: name}.',
    )
    return p

  @classmethod
  def NamedValues(cls, p: Any) -> named_values.Declaration:
    takes = [*p.takes, *p.keywords.values()]
    return named_values.Declaration(p.puts, takes, p.weights_of)

  def __init__(self, params: Any):
    if params.body is None:
      raise ValueError(f'{params.name}.body is not set: Params of a layer.')
    super().__init__(params)
    p = self.params
    self.CreateChild('body', p.body.Copy().Set(name=p.name))

  def _child_variable_scope_override(self) -> Any:
    return {**super()._child_variable_scope_override(), 'body': []}

  def FProp(self, theta: Any, *args: Any) -> Any:
    p = self.params
    body_theta = theta.body.copy()
    body_theta.update({name: theta[name] for name in p.weights_of})
    values = [self.Take(name) for name in p.takes]
    keywords = {key: self.Take(name) for key, name in p.keywords.items()}
    outputs = self.body.FProp(body_theta, *args, *values, **keywords)
    if not p.puts:
      return outputs
    several = isinstance(outputs, list | tuple)
    outputs = list(outputs) if several else [outputs]
    if len(p.puts) > len(outputs):
      raise ValueError(
        f'{self.path}: puts has {len(p.puts)} names, but the body returns '
        f'{len(outputs)} outputs.'
      )
    outputs[: len(p.puts)] = map(self.Put, p.puts, outputs)
    return tuple(outputs) if several else outputs[0]


def _OneOrTuple(values: Sequence[Any]) -> Any:
  return values[0] if len(values) == 1 else tuple(values)
