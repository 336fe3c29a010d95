# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the layers of a model cost: FLOPs or seconds, parameters and bytes.

No layer has to describe itself: its own FProp is traced, alone but otherwise
as in a pipeline's cell, and the ops of the trace and of its gradient are
counted. Nothing is run, and no variable takes memory, unless layers are
measured. Layers that are alike and called alike are costed once.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing import (
  cost_session,
  layer_profile,
  measure,
  measured_file,
  weights,
)
from lingvo_gpipe.costing.build_thread import in_build_thread
from lingvo_gpipe.costing.layer_profile import LayerProfile
from lingvo_gpipe.costing.layer_trace import describe_call
from lingvo_gpipe.costing.params_cache import ParamsCache, as_text
from lingvo_gpipe.costing.weights import IsTrained
from lingvo_gpipe.cutting.cost_model import LayerCost

__all__ = [
  'LayerProfile',
  'flops_costs',
  'measure_profiles',
  'measured_costs',
  'parameter_costs',
  'profile_layers',
]

# Less leaves caches as they are, more sweeps out no more of them.
_LEAST_SWEPT_BYTES, _MOST_SWEPT_BYTES = 2**18, 2**26


def profile_layers(
  layers: Sequence[Any],
  input_specs: Any,
  *,
  optimizer_slots: int = 2,
  named_specs: Mapping[str, Any] | None = None,
  names: Sequence[str] | None = None,
  is_trained: IsTrained = None,
  inputs_trained: bool = False,
) -> list[LayerProfile]:
  """What each layer is called with, returns and costs, in its place.

  The arguments are those of `flops_costs`; `is_trained` maps the name of a
  variable, which begins with that of its layer, to whether it is trained. None
  stands for yes. The backward pass reaches no layer before the first in which
  something is, unless `inputs_trained`: then the inputs come from weights that
  are trained.
  """
  return layer_profile.profile_layers(
    layers,
    input_specs,
    optimizer_slots=optimizer_slots,
    named_specs=named_specs,
    names=names,
    is_trained=is_trained,
    inputs_trained=inputs_trained,
  )


def has_trained(params: Any, is_trained: IsTrained) -> bool:
  """Whether anything is trained in a layer; see `profile_layers`."""
  built = in_build_thread(
    lambda: layer_profile.build_weights(params.name, params)
  )
  return bool(built.trained(params.name, is_trained))


def flops_costs(
  layers: Sequence[Any],
  input_specs: Any,
  *,
  optimizer_slots: int = 2,
  named_specs: Mapping[str, Any] | None = None,
  names: Sequence[str] | None = None,
) -> list[LayerCost]:
  """The cost of each layer, its times in FLOPs.

  A multiplication and an addition are two; padding counts as data; moving
  numbers counts nothing. The backward pass is that of a layer in a pipeline:
  gradients of weights, and, but for the first layer, of the arguments that the
  layer before it gives a gradient. A type of op that cannot be counted is
  logged once.

  Args:
    layers: Params of the layers, in order, as a flat list.
    input_specs: What the first is called with: a nest of tf.TensorSpec of one
      micro-batch. A tuple stands for several arguments.
    optimizer_slots: float32 numbers that the optimizer keeps for each
      parameter.
    named_specs: The same for the side inputs of the pipeline, by name.
    names: The layers' names, if not those in their Params.

  Returns:
    A LayerCost for each layer. Bytes are those of one micro-batch; weights that
    a layer uses but another one owns count for the owner.

  Raises:
    ValueError: A shape is not fully known, or a layer cannot be called with
      what the layer before it returns.
  """
  profiles = profile_layers(
    layers,
    input_specs,
    optimizer_slots=optimizer_slots,
    named_specs=named_specs,
    names=names,
  )
  return [profile.cost for profile in profiles]


def parameter_costs(
  layers: Sequence[Any],
  *,
  optimizer_slots: int = 2,
  names: Sequence[str] | None = None,
  is_trained: IsTrained = None,
  inputs_trained: bool = False,
) -> list[LayerCost]:
  """The cost of each layer by its trainable parameters, without any shapes.

  The forward pass counts one for each, the backward pass two, or one where the
  parameter is not trained. Bytes of activations are not known, and 0.

  Args:
    layers: As for `flops_costs`, and so are the others.
    optimizer_slots: As for `flops_costs`.
    names: As for `flops_costs`.
    is_trained: As for `profile_layers`.
    inputs_trained: As for `profile_layers`.
  """
  names = layer_profile.layer_names(layers, names)

  def build_all() -> list[weights.Weights]:
    known: ParamsCache[weights.Weights] = ParamsCache()
    found = []
    for name, params in zip(names, layers, strict=True):
      built = known.get(params)
      if built is None:
        built = layer_profile.build_weights(name, params)
        known.add(params, None, built)
      found.append(built)
    return found

  costs: list[LayerCost] = []
  has_backward = is_trained is None or inputs_trained
  for name, built in zip(names, in_build_thread(build_all), strict=True):
    trained = sum(v.count for v in built.trained(name, is_trained))
    has_backward = has_backward or trained > 0
    cost = layer_profile.weight_cost(name, built, optimizer_slots, is_trained)
    costs.append(
      dataclasses.replace(
        cost,
        forward=built.parameters,
        backward=(built.parameters + trained) if has_backward else 0,
        has_backward=has_backward,
      )
    )
  return costs


def measured_costs(
  layers: Sequence[Any],
  input_specs: Any,
  *,
  device: str = '',
  file: str | None = None,
  optimizer_slots: int = 2,
  named_specs: Mapping[str, Any] | None = None,
  names: Sequence[str] | None = None,
) -> list[LayerCost]:
  """The cost of each layer, its times in seconds, measured on a device.

  Each kind of layer is run alone, with variables as they are initialised and
  random arguments, forward and backward in turn; its times are medians. Bytes
  are those of `flops_costs`.

  Args:
    layers: As for `flops_costs`, and so are the others.
    input_specs: As for `flops_costs`.
    device: A device of this process; '' lets TensorFlow choose.
    file: A JSON file whose times are used, and to which new ones are added.
    optimizer_slots: As for `flops_costs`.
    named_specs: As for `flops_costs`.
    names: As for `flops_costs`.

  Raises:
    ValueError: As for `flops_costs`; or the file is damaged.
  """
  profiles = profile_layers(
    layers,
    input_specs,
    optimizer_slots=optimizer_slots,
    named_specs=named_specs,
    names=names,
  )
  return measure_profiles(profiles, device=device, file=file)


def measure_profiles(
  profiles: Sequence[LayerProfile],
  *,
  device: str = '',
  file: str | None = None,
) -> list[LayerCost]:
  """The profiles' costs with measured times; see `measured_costs`."""
  cost_session.prepare_to_measure()
  stored = measured_file.MeasuredFile(file)
  times = in_build_thread(lambda: _measure_all(profiles, device, stored))
  return [
    dataclasses.replace(
      profile.cost, forward=found.forward, backward=found.backward
    )
    for profile, found in zip(profiles, times, strict=True)
  ]


def _measure_all(
  profiles: Sequence[LayerProfile],
  device: str,
  stored: measured_file.MeasuredFile,
) -> list[measure.Times]:
  """The times of each layer; those that are alike are measured once."""
  known: ParamsCache[measure.Times] = ParamsCache()
  found = []
  total = sum(_used_bytes(profile.cost) for profile in profiles)
  for profile in profiles:
    key = profile.key
    times = known.get(profile.params, key)
    if times is None:
      other = _swept_bytes(total - _used_bytes(profile.cost))
      times = _measured(profile, device, stored, other)
      known.add(profile.params, key, times)
    found.append(times)
  return found


def _used_bytes(cost: LayerCost) -> int:
  """What a layer reads and writes for a micro-batch, roughly."""
  return cost.weight_bytes + cost.activation_bytes


def _swept_bytes(other_bytes: int) -> int:
  """What is read between passes: a power of two, so that files can be shared.

  Args:
    other_bytes: What the other layers use.
  """
  if other_bytes < _LEAST_SWEPT_BYTES:
    return 0
  return min(1 << (other_bytes.bit_length() - 1), _MOST_SWEPT_BYTES)


def _measured(
  profile: LayerProfile,
  device: str,
  stored: measured_file.MeasuredFile,
  swept_bytes: int,
) -> measure.Times:
  """The times of a layer, from the file or anew."""
  kind = measured_file.device_kind(device)
  key = measured_file.key(
    as_text(profile.params),
    repr(profile.key),
    kind,
    tf.__version__,
    f'{swept_bytes} bytes swept',
  )
  known = stored.get(key)
  if known is not None:
    return known
  times = measure.measure(
    profile.name,
    profile.params,
    profile.call,
    profile.given,
    profile.input_gradients,
    device,
    swept_bytes,
    trained=profile.trained,
  )
  about = {
    'layer': profile.params.cls.__name__,
    'given': describe_call(profile.call),
    'device': kind,
  }
  return stored.add(key, times, about)
