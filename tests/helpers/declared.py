# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers whose Params, weights and children are class attributes, for tests."""

from lingvo.core import base_layer, py_utils


class Layer(base_layer.BaseLayer):
  """A layer with what its class and those before it declare."""

  PARAMS = {}  # The default of each.
  WEIGHTS = {}  # The shape of each; a name in it is that of a Param.
  FROZEN = ()
  CHILDREN = ()  # The Params that hold those of a child.
  DEVIATION = 0.5

  @classmethod
  def Params(cls):
    p = super().Params()
    for name, default in _declared(cls, 'PARAMS').items():
      p.Define(name, default, '')
    for name in cls.CHILDREN:
      p.Define(name, None, '')
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    for name in self.CHILDREN:
      self.CreateChild(name, p.Get(name))
    for name, shape in _declared(type(self), 'WEIGHTS').items():
      shape = [p.Get(size) if isinstance(size, str) else size for size in shape]
      init = py_utils.WeightInit.Gaussian(self.DEVIATION)
      self.CreateVariable(
        name,
        py_utils.WeightParams(shape, init),
        trainable=name not in self.FROZEN,
      )


def _declared(cls, what):
  """What all classes declare, those of base classes first."""
  found = {}
  for base in reversed(cls.__mro__):
    found.update(vars(base).get(what, {}))
  return found
