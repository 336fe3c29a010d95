# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times a layer's forward and backward pass, alone in a session."""

import dataclasses
import inspect
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.costing.building import explained, own_graph
from lingvo_gpipe.costing.cost_session import session_config
from lingvo_gpipe.costing.layer_trace import LayerTrace
from lingvo_gpipe.engine.backward_function import BackwardFunction
from lingvo_gpipe.engine.cell_function import HasGradient
from lingvo_gpipe.engine.tensors import barrier, flat_tensors, on_device

_WARM_UP_RUNS = 2
# Runs go on until both the least number and the least time are reached.
_LEAST_RUNS, _MOST_RUNS = 5, 100
_LEAST_SECONDS = 0.2
# Passes are repeated within a run until it takes this long, so that what it
# takes to start a run hardly counts.
_LEAST_RUN_SECONDS, _MOST_REPEATS = 0.03, 20


@dataclasses.dataclass(frozen=True)
class Times:
  """How long one micro-batch takes in a layer.

  Attributes:
    forward: Seconds of its forward pass.
    backward: Seconds of its backward pass, without recomputation, but with the
      adding of its weights' gradients to those of micro-batches before.
  """

  forward: float
  backward: float


def measure(
  name: str,
  params: Any,
  call: Any,
  given: Sequence[bool],
  input_gradients: bool,
  other_bytes: int = 0,
  trained: Sequence[bool] | None = None,
) -> Times:
  """Measures a layer with variables as they are initialised.

  Its arguments are random numbers. Integers are zeros; so are arguments named
  as paddings, and those named as segment ids are ones: all is data. Before each
  pass as much other memory is read as the model's other layers use in between,
  so that of the layer's data no more is in the device's caches than there would
  be in a pipeline.

  Args:
    name: The layer's name, for errors.
    params: Its Params.
    call: The LayerCall that it is called with.
    given: Which of its outputs' tensors, and of the values that it puts, are
      given a gradient.
    input_gradients: Whether the arguments' gradients are wanted.
    other_bytes: How much other memory is read before each pass.
    trained: For each of its weights, whether it is trained; None if all are.

  Returns:
    Medians of several runs, after some that do not count.
  """
  with own_graph() as graph, explained(name, params, call):
    trace = LayerTrace(name, params, call)
    passes = _Passes(trace, given, input_gradients, other_bytes, trained)
    with tf.tf1.Session(graph=graph, config=session_config()) as session:
      session.run(tf.global_variables_initializer())
      seconds = _time(_runs(session, passes, 1))
      repeats = math.ceil(_LEAST_RUN_SECONDS / seconds[-1])
      if repeats > 1:
        repeats = min(repeats, _MOST_REPEATS)
        seconds = _time(_runs(session, passes, repeats))
        seconds = [second / repeats for second in seconds]
  return _times(*seconds)


class _Passes:
  """A layer's passes as ops to run."""

  def __init__(
    self,
    trace: LayerTrace,
    given: Sequence[bool],
    input_gradients: bool,
    other_bytes: int,
    trained: Sequence[bool] | None,
  ):
    self._function = function = trace.function
    function.prepare_backward(
      _has_gradient(trace, given), input_gradients, trained=trained
    )
    self.has_backward = not function.backward.is_empty
    with on_device(''):
      args, taken = _data(trace)
      step = tf.cast(py_utils.GetGlobalStep(), tf.int64)
      self._arguments = function.arguments(
        args,
        None,
        function.pack_weights(
          [tf.convert_to_tensor(weight) for weight in trace.cell.weights]
        ),
        tf.stack([step, step, step, step + 1, step + 1]),
        trace.cell.carry,
        taken=taken,
      )
      returned = function.graph.outputs[: function.num_outputs]
      ys = [y for y, use in zip(returned, given, strict=True) if use]
      losses = function.graph.outputs[function.num_outputs :]
      ys += losses[: function.num_losses]
      self._d_ys = [_variable(y, 'normal') for y in ys]
      self._sums = _sums(function.backward)
      self._other = _other_memory(other_bytes)

  def sweep(self) -> tf.Operation:
    """Reads the other memory."""
    return _computed([tf.reduce_sum(part) for part in self._other])

  def sweep_twice(self) -> tf.Operation:
    """Reads it once more after it."""
    with tf.control_dependencies([self.sweep()]):
      return self.sweep()

  def forward(self) -> tf.Operation:
    """Sweeps, and runs the forward pass."""
    with tf.control_dependencies([self.sweep()]):
      return _computed(self._function.forward(self._arguments))

  def both(self) -> tf.Operation:
    """The same, keeping what the backward pass needs; sweeps, and runs that."""
    backward = self._function.backward
    with tf.control_dependencies([self.sweep()]):
      results, stash = backward.forward(self._arguments, keep=True)
      done = _computed([*results, *stash])
    with tf.control_dependencies([done]):
      swept = self.sweep()
    with tf.control_dependencies([swept]):
      d_inputs, sums = backward.backward(
        self._arguments, stash, self._d_ys, self._sums
      )
      return _computed([t for t in (*d_inputs, *sums) if t is not None])

  def one_after_the_other(
    self, one: Callable[[], tf.Operation], repeats: int
  ) -> tf.Operation:
    """A pass several times."""
    with on_device(''):
      last = one()
      for _ in range(repeats - 1):
        with tf.control_dependencies([last]):
          last = one()
    return last


def _sums(backward: BackwardFunction) -> list[tf.Tensor] | None:
  """Sums of gradients to add to; None if they are sparse or there are none."""
  specs = backward.sum_specs
  if not all(spec.shape.is_fully_defined() for spec in specs):
    return None
  return (
    backward.pack_sums([_variable(spec, 'zeros') for spec in specs]) or None
  )


def _computed(tensors: Sequence[tf.Tensor]) -> tf.Operation:
  """Runs when all are computed.

  Without barriers TensorFlow sees that nobody reads them, and takes them out of
  the function that computes them.
  """
  return tf.group(*barrier(list(tensors)))


def _runs(
  session: Any, passes: _Passes, repeats: int
) -> list[Callable[[], Any]]:
  """What is timed, in the order in which `_times` takes it."""
  kinds = [passes.sweep, passes.forward]
  if passes.has_backward:
    kinds += [passes.sweep_twice, passes.both]
  return [
    session.make_callable(passes.one_after_the_other(kind, repeats))
    for kind in kinds
  ]


def _times(
  sweep: float,
  sweep_and_forward: float,
  sweeps: float = 0.0,
  sweeps_and_both: float = 0.0,
) -> Times:
  """The passes alone, without sweeps and without starting a run."""
  forward = max(sweep_and_forward - sweep, 0.0)
  return Times(forward, max(sweeps_and_both - sweeps - forward, 0.0))


def _other_memory(num_bytes: int) -> list[tf.Tensor]:
  """A variable to read; none if there are no bytes."""
  length = num_bytes // tf.float32.size
  spec = tf.TensorSpec([length], tf.float32)
  return [_variable(spec, 'zeros')] if length else []


def _has_gradient(trace: LayerTrace, given: Sequence[bool]) -> HasGradient:
  flags = iter(given)
  outputs = [next(flags) for _ in flat_tensors(trace.outputs)]
  put = {
    name: [next(flags) for _ in flat_tensors(nest)]
    for name, nest in sorted(trace.put.items())
  }
  return HasGradient(outputs, put)


def _data(trace: LayerTrace) -> tuple[Any, dict[str, Any]]:
  """Variables in place of the specs of arguments and values taken."""
  names = list(inspect.signature(trace.layer.FProp).parameters)[1:]
  names += [''] * len(trace.call.args)
  args = tuple(
    _fill(nest, name)
    for nest, name in zip(trace.call.args, names, strict=False)
  )
  taken = {name: _fill(nest, name) for name, nest in trace.call.taken.items()}
  return args, taken


def _fill(nest: Any, name: str) -> Any:
  """Variables for a nest of specs.

  Args:
    nest: The nest.
    name: The name of the argument; names in a NestedMap add to it.
  """
  if nest is None:
    return None
  if isinstance(nest, dict):
    filled = {key: _fill(inner, f'{name}.{key}') for key, inner in nest.items()}
    return type(nest)(filled)
  if isinstance(nest, tf.TensorSpec):
    return _variable(nest, _kind(nest, name.lower()))
  return tf.nest.map_structure(
    lambda leaf: None if leaf is None else _fill(leaf, name), nest
  )


def _kind(spec: tf.TensorSpec, name: str) -> str:
  if 'segment' in name:
    return 'ones'
  if 'padding' in name or not spec.dtype.is_floating:
    return 'zeros'
  return 'normal'


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
