# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times layers, forward and backward, each kind of them alone in a session."""

import dataclasses
import json
import re
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import lingvo.compat as tf

from lingvo_gpipe import cpu_devices
from lingvo_gpipe.costing.costs_file import CostsFile
from lingvo_gpipe.costing.layer_profile import LayerProfile
from lingvo_gpipe.costing.layer_trace import LayerTrace
from lingvo_gpipe.costing.weights import (
  ParamsCache,
  as_text,
  explained,
  gpus,
  in_build_thread,
  own_graph,
  session_config,
)
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.engine.tensors import flat_tensors

_FIELDS = ('forward', 'backward', 'weight_share')
_WARM_UP_RUNS = 2
# Runs go on until both the least number and the least time are reached.
_LEAST_RUNS, _MOST_RUNS = 5, 1000
_LEAST_SECONDS = 0.2
# Reading less would not flush the caches, and reading more would not help.
_LEAST_SWEPT_BYTES, _MOST_SWEPT_BYTES = 2**18, 2**26


# Seconds and the weights' share of them, by the names of a LayerCost's fields.
Times: TypeAlias = dict[str, Any]


def measure_profiles(
  profiles: Sequence[LayerProfile], file: str | None = None
) -> list[LayerCost]:
  """The profiles' costs, their times in seconds, measured where they run.

  Layers that are alike are measured once. Times in `file` (JSON) are used, and
  new ones added. ValueError if it is damaged, or a layer cannot be run.
  """
  if not gpus():
    # A device of a pipeline is a core then. Later would be too late.
    cpu_devices.keep_ops_on_one_thread()
  stored = CostsFile(file)
  known: ParamsCache[Times] = ParamsCache()
  total = sum(_used_bytes(profile.cost) for profile in profiles)

  def with_times(profile: LayerProfile) -> LayerCost:
    swept = _swept_bytes(total - _used_bytes(profile.cost))
    times = known.get(
      profile.params, profile.key, lambda: _measured(profile, stored, swept)
    )
    return dataclasses.replace(profile.cost, **times)

  return in_build_thread(lambda: list(map(with_times, profiles)))


def _used_bytes(cost: LayerCost) -> int:
  return cost.weight_bytes + cost.activation_bytes + cost.transient_bytes


def _swept_bytes(other_bytes: int) -> int:
  """What is read between passes: powers of two, so that files can be shared."""
  if other_bytes < _LEAST_SWEPT_BYTES:
    return 0
  return min(1 << (other_bytes.bit_length() - 1), _MOST_SWEPT_BYTES)


def _measured(profile: LayerProfile, stored: CostsFile, swept: int) -> Times:
  device = _device_kind()
  what = as_text(profile.params), repr(profile.key), device, tf.tf1.__version__
  texts = [*what, f'{swept} bytes swept']
  entry = stored.get(
    'layers',
    # Memory addresses do not count.
    re.sub(r' at 0x[0-9a-f]+', '', json.dumps(texts)),
    lambda: {
      'layer': profile.params.cls.__name__,
      'given': str(profile.call),
      'device': device,
      **measure(profile, swept),
    },
  )
  # Older files have no share.
  return {name: entry.get(name) for name in _FIELDS}


def _device_kind() -> str:
  if not gpus():
    return 'CPU'
  details = tf.config.experimental.get_device_details(gpus()[0])
  return f'GPU {details.get("device_name", "")}'.strip()


def measure(profile: LayerProfile, other_bytes: int = 0) -> Times:
  """Measures a layer with variables as they are initialised.

  Arguments are random numbers; integers and paddings are zeros, segment ids
  ones: all is data. Before each pass `other_bytes` are read, as many as other
  layers use in between, so that the caches hold no more of the layer's data
  than in a pipeline. Times are medians. The backward pass is without
  recomputation, but adds gradients of weights to those of micro-batches before.
  """
  with (
    own_graph() as graph,
    explained(profile.name, profile.params, profile.call),
  ):
    passes = _passes(profile, other_bytes // tf.float32.size)
    with tf.tf1.Session(graph=graph, config=session_config()) as session:
      session.run(tf.global_variables_initializer())
      return _times(*_time(list(map(session.make_callable, passes))))


def _passes(profile: LayerProfile, num_other: int) -> list[tf.Operation]:
  """The arguments of `_times`."""
  trace = LayerTrace(profile.params, profile.call, _data)
  other = _variable(tf.TensorSpec([num_other], tf.float32), 'zeros')

  def sweep_after(ops: Sequence[tf.Operation]) -> tf.Operation:
    with tf.control_dependencies(ops):
      return tf.reduce_sum(other).op if num_other else tf.no_op()

  sweep = sweep_after([])
  with tf.control_dependencies([sweep]):
    forward = tf.group(*trace.run())
  with tf.control_dependencies([sweep_after([forward])]):
    d_inputs, d_weights = trace.gradients(
      profile.given,
      profile.input_gradients,
      profile.trained,
      lambda y: _variable(y, 'normal'),
    )
    # To those of micro-batches before.
    sums = [
      d_w + _variable(d_w, 'zeros') if isinstance(d_w, tf.Tensor) else d_w
      for d_w in d_weights
    ]
    gradients = flat_tensors(
      tf.nest.flatten([d_inputs, sums], expand_composites=True)
    )
  if not gradients:
    return [sweep, forward]
  passes = [sweep, forward, sweep_after([sweep]), tf.group(*gradients)]
  of_inputs = flat_tensors(d_inputs)
  return [*passes, tf.group(*of_inputs)] if of_inputs else passes


def _times(
  sweep: float,
  sweep_and_forward: float,
  sweeps: float = 0.0,
  sweeps_and_both: float = 0.0,
  without_weights: float | None = None,
) -> Times:
  """The passes alone, without sweeps and without starting a run.

  Where nothing is for the gradients of inputs all is for those of weights.
  """
  forward = max(sweep_and_forward - sweep, 0.0)
  backward = max(sweeps_and_both - sweeps - forward, 0.0)
  share: float | None = 1.0
  if without_weights is not None:
    of_inputs = max(without_weights - sweeps - forward, 0.0)
    share = max(1 - of_inputs / backward, 0.0) if backward else None
  return dict(zip(_FIELDS, (forward, backward, share), strict=True))


def _data(spec: tf.TensorSpec, name: str) -> tf.Tensor:
  if 'segment' in name.lower():
    return _variable(spec, 'ones')
  is_zero = 'padding' in name.lower() or not spec.dtype.is_floating
  return _variable(spec, 'zeros' if is_zero else 'normal')


def _variable(spec: tf.TensorSpec | tf.Tensor, kind: str) -> tf.Tensor:
  """The value of a variable: data that no optimisation can foresee."""
  dtype = spec.dtype.base_dtype
  make = {'normal': tf.random.normal, 'zeros': tf.zeros, 'ones': tf.ones}[kind]
  variable = tf.Variable(
    lambda: tf.cast(make(spec.shape), dtype),
    trainable=False,
    dtype=dtype,
    name='data',
  )
  return tf.convert_to_tensor(variable)


def _time(passes: Sequence[Callable[[], Any]]) -> list[float]:
  """The median seconds of each, run in turn."""
  for _ in range(_WARM_UP_RUNS):
    for run in passes:
      run()
  seconds: list[list[float]] = [[] for _ in passes]
  begin = time.perf_counter()
  while len(seconds[0]) < _MOST_RUNS and (
    len(seconds[0]) < _LEAST_RUNS
    or time.perf_counter() - begin < _LEAST_SECONDS
  ):
    for run, row in zip(passes, seconds, strict=True):
      start = time.perf_counter()
      run()
      row.append(time.perf_counter() - start)
  return [statistics.median(row) for row in seconds]
