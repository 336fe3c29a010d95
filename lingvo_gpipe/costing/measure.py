# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times a layer's forward and backward pass, alone in a session."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import lingvo.compat as tf

from lingvo_gpipe.costing.cost_session import session_config
from lingvo_gpipe.costing.layer_profile import LayerProfile
from lingvo_gpipe.costing.layer_trace import LayerTrace
from lingvo_gpipe.costing.weights import explained, own_graph
from lingvo_gpipe.engine.tensors import flat_tensors

_WARM_UP_RUNS = 2
# Runs go on until both the least number and the least time are reached.
_LEAST_RUNS, _MOST_RUNS = 5, 1000
_LEAST_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Times:
  """How long one micro-batch takes in a layer.

  Attributes:
    forward: Seconds of its forward pass.
    backward: Seconds of its backward pass, without recomputation, but with the
      adding of its weights' gradients to those of micro-batches before.
    weight_share: The share of `backward` that is not for the gradients of
      inputs; None if it is not known.
  """

  forward: float
  backward: float
  weight_share: float | None = None


def measure(profile: LayerProfile, other_bytes: int = 0) -> Times:
  """Measures a layer with variables as they are initialised.

  Its arguments are random numbers. Integers are zeros; so are arguments named
  as paddings, and those named as segment ids are ones: all is data. Before each
  pass as much other memory is read as the model's other layers use in between,
  so that of the layer's data no more is in the device's caches than there would
  be in a pipeline.

  Args:
    profile: The layer, and what it is called with.
    other_bytes: How much other memory is read before each pass.

  Returns:
    Medians of several runs, after some that do not count.
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
  """What is timed, in the order in which `_times` takes it."""
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
  return Times(forward, backward, share)


def _data(spec: tf.TensorSpec, name: str) -> tf.Tensor:
  """Data for an argument."""
  if 'segment' in name.lower():
    return _variable(spec, 'ones')
  is_zero = 'padding' in name.lower() or not spec.dtype.is_floating
  return _variable(spec, 'zeros' if is_zero else 'normal')


def _variable(spec: tf.TensorSpec | tf.Tensor, kind: str) -> tf.Tensor:
  """The value of a variable: data that no optimisation can foresee."""
  dtype = spec.dtype.base_dtype

  def initial() -> tf.Tensor:
    if kind == 'normal':
      return tf.cast(tf.random.normal(spec.shape), dtype)
    return (tf.zeros if kind == 'zeros' else tf.ones)(spec.shape, dtype)

  variable = tf.Variable(initial, trainable=False, dtype=dtype, name='data')
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
