# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers in sequence: what each is called with, does, and needs.

```
  forwards   specs: args --> layer 0 --> args --> layer 1 --> ... --> outputs
  backwards  which of a layer's outputs have a gradient, and which are kept:
             those that the layer behind it gives one and reads, or a taker of
             a value that it put
```

Layers that are alike, and called alike, are traced once.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from lingvo_gpipe.costing import weights
from lingvo_gpipe.costing.layer_trace import (
  Backward,
  LayerCall,
  LayerFlops,
  Use,
)
from lingvo_gpipe.costing.weights import ParamsCache, explained, in_build_thread
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.skips import Skip
from lingvo_gpipe.engine.tensors import differentiable, flat_tensors, num_bytes
from lingvo_gpipe.named_layers import NamedValueLayer
from lingvo_gpipe.pipeline import named_values
from lingvo_gpipe.pipeline.feature_extraction_layer import to_tuple


@dataclasses.dataclass(frozen=True)
class LayerProfile:
  """One layer in its place.

  Attributes:
    trained: For each weight of the traced layer, whether it is trained.
    cost: What it costs; FLOPs for times.
    given: For each tensor that it returns or puts: has it a gradient?
    read: And do the backward passes of other layers read it?
    input_gradients: Whether the gradients of its arguments are wanted.
  """

  name: str
  params: Any
  call: LayerCall
  flops: LayerFlops
  trained: tuple[bool, ...]
  cost: LayerCost
  given: tuple[bool, ...] = ()
  read: tuple[bool, ...] = ()
  input_gradients: bool = False

  @property
  def backward(self) -> Backward:
    return self.flops.backward(
      self.given, self.read, self.input_gradients, self.trained
    )

  @property
  def key(self) -> Any:
    """What its times depend on besides its Params."""
    key = self.call.key(), self.given, self.input_gradients
    return key if all(self.trained) else (*key, self.trained)


def profile_layers(
  layers: Sequence[Any],
  names: Sequence[str],
  input_specs: Any,
  training: weights.Training,
  named_specs: Mapping[str, Any] | None = None,
) -> list[LayerProfile]:
  """What each layer is called with, returns and costs, in its place.

  Times are FLOPs (see `flops`), bytes those of one micro-batch. The backward
  pass reaches no layer before the first in which something is trained, unless
  the inputs are. A weight that several layers use counts for its owner.

  Args:
    layers: Params of the layers, in order, as a flat list.
    names: The layers' names within the model.
    input_specs: What the first is called with: a nest of tf.TensorSpec of one
      micro-batch. A tuple stands for several arguments.
    named_specs: The same as `input_specs` for side inputs, by name.

  ValueError if a layer cannot be called with what the layer before it returns,
  or returns something of unknown size.
  """
  profiler = _Profiler(layers, names, training)
  named = dict(named_specs or {})
  return in_build_thread(lambda: profiler.run(input_specs, named))


@dataclasses.dataclass
class _Profiler:
  layers: Sequence[Any]
  names: Sequence[str]
  training: weights.Training

  def __post_init__(self) -> None:
    self._traces: ParamsCache[LayerFlops] = ParamsCache()
    self._built: ParamsCache[weights.Weights] = ParamsCache()

  def run(self, inputs: Any, named: dict[str, Any]) -> list[LayerProfile]:
    profiles, args = [], to_tuple(inputs)
    for params, name in zip(self.layers, self.names, strict=True):
      call = self._call(params, name, args, named)
      flops = self._traces.get(
        params, call.key(), functools.partial(LayerFlops, name, params, call)
      )
      trace = flops.trace
      trained = trace.trained(name, call, self.training.is_trained)
      cost = dataclasses.replace(
        weights.weight_cost(name, trace.weights, self.training),
        forward=flops.forward,
        output_bytes=num_bytes(trace.outputs),
      )
      profiles.append(LayerProfile(name, params, call, flops, trained, cost))
      named.update(trace.put)
      args = to_tuple(trace.outputs)
    return self._backwards(profiles)

  def _call(
    self,
    params: Any,
    name: str,
    args: tuple[Any, ...],
    named: Mapping[str, Any],
  ) -> LayerCall:
    declared = named_values.declared(params)
    missing = [value for value in declared.takes if value not in named]
    if missing:
      raise ValueError(
        f'Layer {name!r} takes {missing}, but no layer before it puts them, '
        'and they are not side inputs of known shape; there are '
        f'{sorted(named)}. Set side_input_shapes if they are side inputs.'
      )
    call = LayerCall(args, {value: named[value] for value in declared.takes})
    for inner, source in declared.weights_of.items():
      call.tied[inner], call.tied_names[inner] = self._theta_specs(source, name)
    return call

  def _theta_specs(self, source: str, user: str) -> tuple[Any, Any]:
    """Specs of what a layer uses of another one's theta, and its names."""
    owner, part = named_values.find_owner(source, self.names)
    what = f'Layer {user!r} uses the weights of {source!r}, but there is no '
    if owner is None:
      raise ValueError(f'{what}such layer.')
    params = self.layers[self.names.index(owner)]
    known = self._built.get(
      params, None, functools.partial(weights.build_weights, owner, params)
    )
    theta = known.theta
    names = known.names.Transform(lambda n: n and f'{owner}/{n}')
    for key in filter(None, part.split('.')):
      if key not in theta:
        raise ValueError(f'{what}{key!r}; there are {sorted(theta)}.')
      theta, names = theta[key], names[key]
    return theta, names

  def _backwards(self, profiles: list[LayerProfile]) -> list[LayerProfile]:
    training, first = self.training, 0
    if training.is_trained is not None and not training.inputs_trained:
      trained = [any(profile.trained) for profile in profiles]
      first = [*trained, True].index(True)
    # By the names of values; '' is what a layer hands to the next. Whoever is
    # behind the last layer may read what that returns.
    uses = {
      '': [
        (Use.GRADIENT if differentiable(x) else Use.NONE) | Use.READ
        for x in flat_tensors(profiles[-1].flops.trace.outputs)
      ]
    }
    for index, profile in reversed(list(enumerate(profiles))):
      trace = profile.flops.trace
      here: list[Use] = []
      for value, nest in _by_name(trace.outputs, trace.put):
        here += uses.pop(value, [Use.NONE] * len(flat_tensors(nest)))
      profile = dataclasses.replace(
        profile,
        given=tuple(Use.GRADIENT in use for use in here),
        read=tuple(Use.READ in use for use in here),
        input_gradients=training.inputs_trained or index > first,
      )
      with explained(profile.name, profile.params, profile.call):
        back = profile.backward
      inputs = iter(back.uses)
      for value, nest in _by_name(profile.call.args, profile.call.taken):
        mine = list(itertools.islice(inputs, len(flat_tensors(nest))))
        others = uses.get(value, mine)
        uses[value] = [a | b for a, b in zip(mine, others, strict=True)]
      cost = dataclasses.replace(
        profile.cost,
        backward=back.flops,
        weight_share=back.weight_share,
        activation_bytes=back.activation_bytes,
        transient_bytes=back.transient_bytes,
        has_backward=index >= first,
      )
      profiles[index] = dataclasses.replace(profile, cost=cost)
    return profiles


def _by_name(nest: Any, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
  return [('', nest), *sorted(values.items())]


def skips(profiles: Sequence[LayerProfile]) -> Iterator[Skip]:
  """The values that layers put aside, with the layers that take them."""
  taken = [named_values.declared(profile.params).takes for profile in profiles]
  for i, profile in enumerate(profiles):
    for name, nest in profile.flops.trace.put.items():
      later = [j for j, names in enumerate(taken) if j > i and name in names]
      if later:
        yield Skip(i, tuple(later), num_bytes(nest))


def cost_params(params: Any) -> Any:
  """A layer's Params without what changes nothing of its cost, such as rates.

  A layer class says so by `CostParams(p)`. Equal Params are costed once.
  """
  cost_params = getattr(params.cls, 'CostParams', None)
  return params if cost_params is None else cost_params(params)


# The name by which the targets reach the loss here; no user's name is this.
TARGETS = ' targets'


class _LossLayer(NamedValueLayer):
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
  """Params of a layer that costs what a loss costs."""
  return _LossLayer.Params().Set(name=loss.name, loss=loss, takes=[TARGETS])


def with_loss(last: LayerCost, loss: LayerCost) -> LayerCost:
  """The cost of the last layer with the loss in it."""
  sums: dict[str, Any] = {
    name: getattr(last, name) + getattr(loss, name)
    for name in (
      *('forward', 'backward', 'parameters', 'weight_bytes'),
      *('optimizer_bytes', 'activation_bytes', 'transient_bytes'),
    )
  }
  of_weights = Fraction(last.weight_gradient) + Fraction(loss.weight_gradient)
  whole = Fraction(sums['backward'])
  return dataclasses.replace(
    last,
    **sums,
    weight_share=float(of_weights / whole) if whole else None,
    gradient_bytes=last.gradient_sum_bytes + loss.gradient_sum_bytes,
    output_bytes=0,
    has_backward=last.has_backward or loss.has_backward,
  )
