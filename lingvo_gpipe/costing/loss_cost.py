# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a loss in the last cell costs, costed like a layer."""

import dataclasses
from typing import Any

from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.named_layers import NamedValueLayer

# The name by which the targets reach the loss here; no user's name is this.
TARGETS = ' targets'


class _LossLayer(NamedValueLayer):
  """Calls a loss as layers are called; returns the loss's value."""

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define('loss', None, 'Params of the loss.')
    return p

  def __init__(self, params: Any):
    super().__init__(params)
    self.CreateChild('loss', self.params.loss)

  def FProp(self, theta: Any, *args: Any) -> Any:
    outputs = args[0] if len(args) == 1 else args
    targets = self.Take(TARGETS)
    return self.loss.FProp(theta.loss, outputs, targets)['loss'][0]


def loss_layer(loss: Any) -> Any:
  """Params of a layer that costs what the loss costs."""
  return _LossLayer.Params().Set(
    name=loss.name or 'loss', loss=loss, takes=[TARGETS]
  )


def add(last: LayerCost, loss: LayerCost) -> LayerCost:
  """The cost of the last layer with the loss in it."""
  return dataclasses.replace(
    last,
    forward=last.forward + loss.forward,
    backward=last.backward + loss.backward,
    parameters=last.parameters + loss.parameters,
    weight_bytes=last.weight_bytes + loss.weight_bytes,
    gradient_bytes=last.gradient_sum_bytes + loss.gradient_sum_bytes,
    optimizer_bytes=last.optimizer_bytes + loss.optimizer_bytes,
    activation_bytes=last.activation_bytes + loss.activation_bytes,
    output_bytes=0,
    has_backward=last.has_backward or loss.has_backward,
  )
