# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a model's layers cost, and the loss in its last cell like a layer."""

import dataclasses
import hashlib
import pickle
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import lingvo.compat as tf

from lingvo_gpipe.costing import layer_profile, measured_costs, weights
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.skips import Skip
from lingvo_gpipe.engine.tensors import num_bytes
from lingvo_gpipe.named_layers import NamedValueLayer
from lingvo_gpipe.pipeline import flat_layers, named_values, param_values
from lingvo_gpipe.pipeline.trained_variables import TrainedVariables

# What layers cost, and the values that skip layers.
_Counted: TypeAlias = tuple[list[LayerCost], tuple[Skip, ...]]

# The name by which the targets reach the loss here; no user's name is this.
_TARGETS = ' targets'


def shapes_of(params: Any, name: str) -> Any:
  """Specs from a Param that has them as text; None if it has none."""
  value = params.Get(name)
  if value is None or (isinstance(value, str) and not value.strip()):
    return None
  return param_values.specs(value, f'{params.name}.{name}')


def model_costs(
  params: Any,
  layers: Sequence[flat_layers.FlatLayer],
  basis: str,
  shapes: Any,
  trained: TrainedVariables,
) -> _Counted:
  """The layers' costs, and the values that skip layers.

  The loss's costs are added to the last layer's.

  Args:
    params: Params of a GPipeSequentialLayer.
    layers: Its layers, in order.
    basis: What costs are: one of pipeline_plan.BALANCES.
    shapes: Specs of the input's micro-batch; None where `basis` is 'params'.
    trained: Which variables are trained.

  Raises:
    ValueError: A Param is not usable, or a layer has no costs.
  """
  subs = [cost_params(layer.params) for layer in layers]
  names = [layer.name for layer in layers]
  named = shapes_of(params, 'side_input_shapes') or {}
  if not isinstance(named, Mapping):
    raise ValueError(
      f'{params.name}.side_input_shapes is {params.side_input_shapes!r}; each '
      "needs its name, as in 'paddings=float32[16,32]'."
    )
  loss = params.loss_tpl
  if loss is not None and basis != 'params':
    targets = shapes_of(params, 'target_shapes')
    if targets is None:
      tf.logging.info(
        '%s: the cost of the loss is not counted; set target_shapes for that.',
        params.name,
      )
      loss = None
    else:
      named = {**named, _TARGETS: targets}
      loss = _loss_layer(loss)
  if loss is None:
    return _remembered(params, basis, subs, names, shapes, named, trained)
  names.append(loss.name or 'loss')
  subs.append(loss)
  costs, skips = _remembered(params, basis, subs, names, shapes, named, trained)
  *others, last, of_loss = costs
  return [*others, _with_loss(last, of_loss)], skips


def cost_params(params: Any) -> Any:
  """A layer's Params without what changes nothing of its cost.

  Layers with equal Params are costed once. A layer class whose Params differ
  from layer to layer in a probability, say, can have a `CostParams(p)` that
  returns Params in which they do not.
  """
  cost_params = getattr(params.cls, 'CostParams', None)
  return params if cost_params is None else cost_params(params)


# What this process has counted, by model.
_known: dict[bytes, _Counted] = {}


def _remembered(params: Any, basis: str, *args: Any) -> _Counted:
  """`_count`, once in a process for each model.

  Jobs that share a process build the model several times: counting takes
  seconds, and what is measured must not differ between them.
  """
  what = (
    basis,
    params.optimizer_slots,
    params.costs_file,
    params.before_tpl,
    args,
  )
  try:
    key = hashlib.sha256(pickle.dumps(what)).digest()
  except (AttributeError, TypeError, pickle.PicklingError):
    # A class within a function, say.
    return _count(params, basis, *args)
  if key not in _known:
    _known[key] = _count(params, basis, *args)
  return _known[key]


def _count(
  params: Any,
  basis: str,
  subs: Sequence[Any],
  names: Sequence[str],
  shapes: Any,
  named: Mapping[str, Any],
  trained: TrainedVariables,
) -> _Counted:
  is_trained = trained.in_pipeline if trained.filters else None
  inputs_trained = is_trained is not None and any(
    weights.has_trained(layer, is_trained) for layer in params.before_tpl
  )
  training = weights.Training(
    params.optimizer_slots, is_trained, inputs_trained
  )
  if basis == 'params':
    return weights.parameter_costs(subs, names, training), ()
  profiles = layer_profile.profile_layers(subs, names, shapes, training, named)
  costs = [profile.cost for profile in profiles]
  if basis == 'measured':
    costs = measured_costs.measure_profiles(profiles, params.costs_file or None)
  return costs, tuple(_skips(profiles))


def _skips(
  profiles: Sequence[layer_profile.LayerProfile],
) -> Iterator[Skip]:
  """The values that layers put aside, with the layers that take them."""
  takers: dict[str, list[int]] = {}
  for j, profile in enumerate(profiles):
    for name in named_values.declared(profile.params).takes:
      takers.setdefault(name, []).append(j)
  for i, profile in enumerate(profiles):
    for name, nest in profile.put.items():
      later = tuple(j for j in takers.get(name, ()) if j > i)
      if later:
        yield Skip(i, later, num_bytes(nest))


# -- The loss.


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
    targets = self.Take(_TARGETS)
    return self.loss.FProp(theta.loss, outputs, targets)['loss'][0]


def _loss_layer(loss: Any) -> Any:
  """Params of a layer that costs what the loss costs."""
  return _LossLayer.Params().Set(
    name=loss.name or 'loss', loss=loss, takes=[_TARGETS]
  )


def _share_of_both(last: LayerCost, loss: LayerCost) -> float | None:
  whole = Fraction(last.backward) + Fraction(loss.backward)
  both = Fraction(last.weight_gradient) + Fraction(loss.weight_gradient)
  return float(both / whole) if whole else None


def _with_loss(last: LayerCost, loss: LayerCost) -> LayerCost:
  """The cost of the last layer with the loss in it."""
  return dataclasses.replace(
    last,
    forward=last.forward + loss.forward,
    backward=last.backward + loss.backward,
    weight_share=_share_of_both(last, loss),
    parameters=last.parameters + loss.parameters,
    weight_bytes=last.weight_bytes + loss.weight_bytes,
    gradient_bytes=last.gradient_sum_bytes + loss.gradient_sum_bytes,
    optimizer_bytes=last.optimizer_bytes + loss.optimizer_bytes,
    activation_bytes=last.activation_bytes + loss.activation_bytes,
    transient_bytes=last.transient_bytes + loss.transient_bytes,
    output_bytes=0,
    has_backward=last.has_backward or loss.has_backward,
  )
