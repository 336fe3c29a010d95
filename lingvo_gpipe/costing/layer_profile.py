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
from collections.abc import Mapping, Sequence
from typing import Any

from lingvo_gpipe.costing import weights
from lingvo_gpipe.costing.layer_trace import (
  Backward,
  LayerCall,
  LayerFlops,
  check_known,
)
from lingvo_gpipe.costing.weights import (
  ParamsCache,
  explained,
  in_build_thread,
)
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.engine.tensors import differentiable, flat_tensors, num_bytes
from lingvo_gpipe.pipeline import named_values
from lingvo_gpipe.pipeline.feature_extraction_layer import to_tuple


@dataclasses.dataclass(frozen=True)
class LayerProfile:
  """One layer in its place.

  Attributes:
    name: Its name.
    params: Its Params.
    call: Specs of what it is called with.
    outputs: Specs of what it returns, a nest.
    put: Specs of the values that it puts, by name.
    cost: What it costs; FLOPs for times.
    given: Which of the tensors of its outputs and of the values that it puts
      are given a gradient.
    input_gradients: Whether the gradients of its arguments are wanted.
    trained: For each weight of the traced layer, whether it is trained.
  """

  name: str
  params: Any
  call: LayerCall
  outputs: Any
  put: Mapping[str, Any]
  cost: LayerCost
  given: tuple[bool, ...]
  input_gradients: bool
  trained: tuple[bool, ...]

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

  Times are FLOPs. A multiplication and an addition are two; padding counts as
  data; moving numbers counts nothing. The backward pass is that of a layer in
  a pipeline: gradients of weights, and, but for the first layer, of the
  arguments that the layer before it gives a gradient. It reaches no layer
  before the first in which something is trained, unless the inputs are. A type
  of op that cannot be counted is logged once.

  Args:
    layers: Params of the layers, in order, as a flat list.
    names: The layers' names within the model.
    input_specs: What the first is called with: a nest of tf.TensorSpec of one
      micro-batch. A tuple stands for several arguments.
    training: What is trained.
    named_specs: As `input_specs`, for the pipeline's side inputs, by name.

  Returns:
    A profile for each layer. Bytes are those of one micro-batch; weights that
    a layer uses but another one owns count for the owner.

  Raises:
    ValueError: A shape is not fully known, or a layer cannot be called with
      what the layer before it returns.
  """
  named_specs = dict(named_specs or {})
  for nest, param in (
    (input_specs, 'input_shapes'),
    (named_specs, 'side_input_shapes'),
  ):
    check_known(
      nest, param, f'Set {param} to the shapes and dtypes of one micro-batch.'
    )
  if not layers:
    return []
  profiler = _Profiler(layers, names, training)
  return in_build_thread(
    lambda: profiler.run(to_tuple(input_specs), named_specs)
  )


@dataclasses.dataclass(frozen=True)
class _Use:
  """What the backward passes of layers do with a tensor that they are given.

  Attributes:
    has_gradient: Whether they give it a gradient.
    is_read: Whether they read it.
  """

  has_gradient: bool = False
  is_read: bool = False

  def joined(self, other: '_Use') -> '_Use':
    """Of this layer and of another one."""
    return _Use(
      self.has_gradient or other.has_gradient, self.is_read or other.is_read
    )


class _Profiler:
  """Traces and differentiates each layer once."""

  def __init__(
    self,
    layers: Sequence[Any],
    names: Sequence[str],
    training: weights.Training,
  ):
    self._layers = layers
    self._names = names
    self._training = training
    self._first_trained = 0
    self._traces: ParamsCache[LayerFlops] = ParamsCache()
    self._built: ParamsCache[weights.Weights] = ParamsCache()
    self._backwards: dict[Any, Backward] = {}

  def run(
    self, args: tuple[Any, ...], named: dict[str, Any]
  ) -> list[LayerProfile]:
    """Profiles all layers; see `profile_layers`."""
    traces = []
    for params, name in zip(self._layers, self._names, strict=True):
      call = self._call(params, name, args, named)
      flops = self._traces.get(
        params, call.key(), functools.partial(LayerFlops, name, params, call)
      )
      traces.append((flops, call))
      named.update(flops.trace.put)
      args = to_tuple(flops.trace.outputs)
    return self._profiles(traces)

  # -- Forwards.

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
    tied = {
      inner: self._theta_specs(source, name)
      for inner, source in declared.weights_of.items()
    }
    return LayerCall(
      args=args,
      taken={value: named[value] for value in declared.takes},
      tied={inner: specs for inner, (specs, _) in tied.items()},
      tied_names={inner: names for inner, (_, names) in tied.items()},
    )

  def _theta_specs(self, source: str, user: str) -> tuple[Any, Any]:
    """Specs of what a layer uses of another one's theta, and its names."""
    owner, part = named_values.find_owner(source, self._names)
    if owner is None:
      raise ValueError(
        f'Layer {user!r} uses the weights of {source!r}, but there is no such '
        'layer.'
      )
    params = self._layers[self._names.index(owner)]
    known = self._built.get(
      params, None, lambda: weights.build_weights(owner, params)
    )
    theta = known.theta
    names = known.names.Transform(lambda n: n and f'{owner}/{n}')
    for key in filter(None, part.split('.')):
      if key not in theta:
        raise ValueError(
          f'Layer {user!r} uses the weights of {source!r}, but there is no '
          f'{key!r}; there are {sorted(theta)}.'
        )
      theta, names = theta[key], names[key]
    return theta, names

  # -- Backwards.

  def _profiles(
    self, traces: Sequence[tuple[LayerFlops, LayerCall]]
  ) -> list[LayerProfile]:
    profiles: list[LayerProfile] = []
    trained = [
      flops.trace.trained(name, call, self._training.is_trained)
      for name, (flops, call) in zip(self._names, traces, strict=True)
    ]
    training = self._training
    if training.is_trained is not None and not training.inputs_trained:
      self._first_trained = next(
        (i for i, flags in enumerate(trained) if any(flags)), len(traces)
      )
    outputs = flat_tensors(traces[-1][0].trace.outputs)
    # Whoever is behind the last layer may read what that returns.
    behind = [_Use(differentiable(x), True) for x in outputs]
    takers: dict[str, list[_Use]] = {}
    for index in reversed(range(len(traces))):
      flops, call = traces[index]
      uses = list(behind)
      for value, nest in sorted(flops.trace.put.items()):
        uses += takers.pop(value, [_Use()] * len(flat_tensors(nest)))
      profile, of_inputs = self._profile(
        index, flops, call, uses, trained[index]
      )
      profiles.append(profile)
      inputs = iter(of_inputs)
      behind = list(itertools.islice(inputs, len(flat_tensors(call.args))))
      for value, nest in sorted(call.taken.items()):
        mine = list(itertools.islice(inputs, len(flat_tensors(nest))))
        others = takers.get(value, mine)
        takers[value] = list(map(_Use.joined, mine, others))
    return profiles[::-1]

  def _profile(
    self,
    index: int,
    flops: LayerFlops,
    call: LayerCall,
    uses: Sequence[_Use],
    trained: tuple[bool, ...],
  ) -> tuple[LayerProfile, list[_Use]]:
    """One layer's profile, and what it does with its inputs.

    Args:
      index: Which layer.
      flops: Its trace.
      call: What it is called with.
      uses: What others do with its outputs and the values that it puts.
      trained: For each of its weights, whether it is trained.
    """
    input_gradients = (
      self._training.inputs_trained or index > self._first_trained
    )
    given = tuple(use.has_gradient for use in uses)
    read = tuple(use.is_read for use in uses)
    with explained(self._names[index], self._layers[index], call):
      back = self._backward(flops, given, read, input_gradients, trained)
    cost = dataclasses.replace(
      weights.weight_cost(
        self._names[index], flops.trace.weights, self._training
      ),
      forward=flops.forward,
      backward=back.flops,
      weight_share=self._weight_share(
        flops, given, read, input_gradients, trained
      ),
      activation_bytes=back.activation_bytes,
      transient_bytes=back.transient_bytes,
      output_bytes=num_bytes(flops.trace.outputs),
      has_backward=index >= self._first_trained,
    )
    profile = LayerProfile(
      name=self._names[index],
      params=self._layers[index],
      call=call,
      outputs=flops.trace.outputs,
      put=flops.trace.put,
      cost=cost,
      given=given,
      input_gradients=input_gradients,
      trained=trained,
    )
    return profile, list(map(_Use, back.has_gradient, back.reads))

  def _backward(
    self,
    flops: LayerFlops,
    given: tuple[bool, ...],
    read: tuple[bool, ...],
    input_gradients: bool,
    trained: tuple[bool, ...],
  ) -> Backward:
    key = (id(flops), given, read, input_gradients, trained)
    if key not in self._backwards:
      self._backwards[key] = flops.backward(*key[1:])
    return self._backwards[key]

  def _weight_share(
    self,
    flops: LayerFlops,
    given: tuple[bool, ...],
    read: tuple[bool, ...],
    input_gradients: bool,
    trained: tuple[bool, ...],
  ) -> float | None:
    """The share of the backward pass that gradients of inputs do not need."""
    whole = self._backward(flops, given, read, input_gradients, trained).flops
    if not whole:
      return None
    of_inputs = 0
    if input_gradients:
      none = (False,) * len(trained)
      of_inputs = self._backward(flops, given, read, True, none).flops
    return 1 - min(of_inputs / whole, 1.0)
