# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The gradient of a pipeline's outputs, as TensorFlow finds it.

With the loss outside, the backward tasks run when TensorFlow asks for
gradients; with the loss inside they are already in the graph, for the sum of
loss x weight, and are only scaled. Half-precision gradients are still float32
then: the sum may be too large or too small for them, where the mean is not.

`tf.custom_gradient` passes all arguments through one op on one device, so the
weights of every cell would travel there each step. Here each device has an op
for its own weights; what crosses is a scalar, the token:

```
  inputs            --[device 0]-- token --.
  weights of cell 0 --[device 0]-- token ---+--[last device]-- outputs
  weights of cell 1 --[device 1]-- token --'
```

TensorFlow reaches the outputs' gradient function first, which runs the
backward pass; the tokens' functions then hand out the gradients. The function
of a token is called only if something before its tensors needs gradients.

`tf.custom_gradient` also adds each gradient function to TensorFlow's registry,
forever, and with it the layers, the engine and the graph. Here the registry has
one function, which finds the op's own where it is kept: on the op.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import lingvo.compat as tf
from tensorflow.python.eager import record
from tensorflow.python.framework import func_graph
from tensorflow.python.ops import while_v2

from lingvo_gpipe.engine import micro_batches
from lingvo_gpipe.engine.backward_tasks import (
  Gradients,
  LossGradients,
  run_tasks,
)
from lingvo_gpipe.engine.engine import Engine
from lingvo_gpipe.engine.tensors import (
  differentiable,
  on_device,
  sum_dtype,
  value_dtype,
)
from lingvo_gpipe.pipeline.mini_batch import Leaf
from lingvo_gpipe.schedules import TaskKind

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices | None
GradientFunction = Callable[..., Sequence[Gradient]]

_OP_TYPE = 'LingvoGPipeGradient'
_ATTRIBUTE = '_lingvo_gpipe_gradient'


@dataclasses.dataclass(frozen=True)
class BackwardPass:
  """A backward pass that is in the graph; what it left is to be scaled."""

  gradients: Gradients
  scale: tf.Tensor | None = None

  def scaled(self, gradient: Any, dtype: tf.DType, device: str) -> Any:
    """One of the gradients, multiplied by the scale, of some dtype."""
    if gradient is None:
      return None
    with on_device(device):
      if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(
          self.scaled(gradient.values, dtype, device),
          gradient.indices,
          gradient.dense_shape,
        )
      if self.scale is not None:
        wide = sum_dtype(gradient.dtype)
        gradient = tf.cast(gradient, wide) * tf.cast(self.scale, wide)
      return tf.cast(gradient, dtype.base_dtype)


@dataclasses.dataclass(frozen=True)
class Source:
  """Float tensors on one device that the outputs depend on.

  Attributes:
    device: The device.
    tensors: The tensors.
    gradients: Called, if they are needed, with the backward pass once it has
      run; returns a gradient, or None, for each tensor.
  """

  device: str
  tensors: Sequence[tf.Tensor]
  gradients: Callable[[BackwardPass], Sequence[Gradient]]


# -- What the outputs depend on.


def of_leaves(
  device: str,
  leaves: Sequence[Leaf],
  num_micro_batches: int,
  get: Callable[[Gradients, int], Sequence[Any]],
) -> Source:
  """Inputs or side inputs as a source; those that are not float are left out.

  They are on the device of the first cell that takes them. The gradients of all
  of them for a micro-batch are what `get` gives.
  """
  kept = [i for i, leaf in enumerate(leaves) if differentiable(leaf.tensor)]
  tensors = [leaves[i].tensor for i in kept]

  def merged(backward: BackwardPass) -> list[Any]:
    of_all = [get(backward.gradients, m) for m in range(num_micro_batches)]
    with on_device(device):
      whole = micro_batches.merge_gradients(
        [[row[i] for i in kept] for row in of_all],
        [leaves[i].dim for i in kept],
      )
    return [
      backward.scaled(d, t.dtype, device)
      for d, t in zip(whole, tensors, strict=True)
    ]

  return Source(device, tensors, merged)


def of_weights(engine: Engine, k: int) -> Source:
  """The trained weights of cell `k` as a source."""
  weights = engine.weights(k)
  kept = [i for i, w in enumerate(weights) if differentiable(w)]
  device = engine.traced.cells[k].device

  def gradients(backward: BackwardPass) -> list[Any]:
    of_all = backward.gradients.of_weights(k)
    return [
      backward.scaled(of_all[i], value_dtype(weights[i]), device) for i in kept
    ]

  return Source(device, [weights[i] for i in kept], gradients)


def refusing(device: str, tensors: Sequence[tf.Tensor], message: str) -> Source:
  """Tensors of which a gradient must not be asked for.

  It is an error, not None, which a learner would skip. A gradient tape asks for
  all that there is: it gets NaN inside of `tf.function`, None outside of it.
  """

  def refuse(backward: BackwardPass) -> list[tf.Tensor | None]:
    del backward
    if tf.executing_eagerly():
      return [None] * len(tensors)
    if not tf.get_default_graph().building_function:
      raise ValueError(message)
    # A tape asks for all that there is; what it does not use is not computed.
    return [
      tf.fill(tf.shape(t), tf.constant(float('nan'), t.dtype)) for t in tensors
    ]

  return Source(device, tensors, refuse)


# -- The loss outside or inside.


def with_loss_outside(
  engine: Engine,
  sources: Sequence[Source],
  outputs: Sequence[tf.Tensor],
  parts: Sequence[Sequence[tf.Tensor]],
  dims: micro_batches.Dims,
  shares: Callable[[], list[tf.Tensor]],
) -> list[tf.Tensor]:
  """Attaches the gradient where the loss is outside of the pipeline.

  Args:
    engine: The engine, with all forward tasks emitted.
    sources: What the outputs depend on.
    outputs: The last cell's differentiable outputs, of the mini-batch, then
      the auxiliary losses of all cells.
    parts: For each micro-batch, what was joined to the last cell's outputs.
    dims: Along which dimension each was joined.
    shares: Gives each micro-batch's share of the examples.
  """
  num_outputs = len(dims)
  device = engine.traced.cells[-1].device

  def run_backward(d_outputs: list[tf.Tensor]) -> BackwardPass:
    with on_device(device):
      split = micro_batches.split_gradients(
        d_outputs[:num_outputs], parts, dims
      )
    start = LossGradients(lambda m: split[m])
    if len(outputs) > num_outputs:
      losses = _aux_gradients(engine, d_outputs[num_outputs:], shares())
      start = dataclasses.replace(start, losses=losses)
    tasks = engine.traced.schedule.in_order()
    backward = [task for task in tasks if task.kind != TaskKind.FORWARD]
    return BackwardPass(run_tasks(engine, backward, start))

  return attach(outputs, sources, device, run_backward)


def _aux_gradients(
  engine: Engine,
  d_losses: Sequence[tf.Tensor],
  shares: Sequence[tf.Tensor],
) -> Callable[[int, int], list[tf.Tensor]]:
  """Gradients of each cell's auxiliary losses, for each micro-batch."""

  def gradients(k: int, m: int) -> list[tf.Tensor]:
    first = sum(len(engine.results(j, m).losses) for j in range(k))
    end = first + len(engine.results(k, m).losses)
    with on_device(engine.traced.cells[k].device):
      return [tf.cast(shares[m], d.dtype) * d for d in d_losses[first:end]]

  return gradients


def with_loss_inside(
  sources: Sequence[Source],
  device: str,
  loss: tf.Tensor,
  weight: tf.Tensor,
  run: Callable[[], BackwardPass],
) -> tf.Tensor:
  """Attaches the gradient to the loss inside, or another metric.

  Args:
    sources: What the loss depends on.
    device: The last cell's device.
    loss: The loss of the mini-batch.
    weight: Its weight.
    run: Gives the backward pass, from gradients of `scale` x weight.
  """

  def run_backward(d_outputs: list[tf.Tensor]) -> BackwardPass:
    backward = run()
    with on_device(device):
      scale = tf.math.divide_no_nan(d_outputs[0], weight * backward.scale)
    return dataclasses.replace(backward, scale=scale)

  return attach([loss], sources, device, run_backward)[0]


# -- Gradient functions.


def attach(
  outputs: Sequence[tf.Tensor],
  sources: Sequence[Source],
  device: str,
  run_backward: Callable[[list[tf.Tensor]], BackwardPass],
) -> list[tf.Tensor]:
  """Returns float tensors with a gradient.

  Args:
    outputs: The tensors, computed outside of any gradient tape.
    sources: What they depend on.
    device: Where they are.
    run_backward: Called with a gradient for each output.
  """
  done: list[BackwardPass] = []
  tokens = [_token(source, done) for source in sources if source.tensors]

  def gradient(*d_outputs: tf.Tensor | None) -> list[Gradient]:
    _check_loops()
    # A tape may leave out what it knows to be zero.
    with on_device(device):
      given = [
        tf.zeros_like(t) if d is None else d
        for t, d in zip(outputs, d_outputs, strict=True)
      ]
    done[:] = [run_backward(given)]
    with on_device(device):
      return [tf.zeros([]) for _ in tokens]

  with on_device(device):
    return _with_gradient(outputs, tokens, gradient)


def _token(source: Source, done: Sequence[BackwardPass]) -> tf.Tensor:
  """A scalar that depends on a source and passes on its gradients."""
  with on_device(source.device):
    [token] = _with_gradient(
      [tf.zeros([])],
      source.tensors,
      lambda unused_d_token: source.gradients(done[0]),
    )
  return token


def _with_gradient(
  outputs: Sequence[tf.Tensor],
  depends_on: Sequence[tf.Tensor],
  gradient: GradientFunction,
) -> list[tf.Tensor]:
  """Copies of tensors that have a gradient function.

  It maps a gradient of each output to one of each tensor in `depends_on`; each
  may be None.
  """
  count = len(outputs)
  with record.stop_recording():
    if tf.executing_eagerly():
      results = [tf.identity(t) for t in outputs]
    else:
      with tf.get_default_graph().gradient_override_map(
        {'IdentityN': _OP_TYPE}
      ):
        results = tf.identity_n([*outputs, *depends_on])[:count]
      setattr(
        results[0].op,
        _ATTRIBUTE,
        lambda *d: [None] * count + list(gradient(*d[:count])),
      )
  record.record_operation(_OP_TYPE, results, list(depends_on), gradient)
  return results


@tf.RegisterGradient(_OP_TYPE)
def _gradient_of_op(op: tf.Operation, *d_results: tf.Tensor) -> list[Gradient]:
  """Calls the gradient function that is kept on an op."""
  if not hasattr(op, _ATTRIBUTE):
    raise ValueError(
      f'The op {op.name!r} passes on the gradient of a pipeline, but is a copy '
      'of the one that was built: its graph was written out and read in again. '
      'The copy can run, but not be differentiated. Build the pipeline again '
      'where you need its gradients.'
    )
  return getattr(op, _ATTRIBUTE)(*d_results)


def _check_loops() -> None:
  """Raises ValueError in a loop whose gradient TensorFlow cannot place.

  Where gradients are colocated with ops, it colocates zeros for each variable
  that a `tf.while_loop` reads with the variable and with the loop.
  """
  graph = tf.get_default_graph()
  while isinstance(graph, func_graph.FuncGraph):
    outer = graph.outer_graph
    if isinstance(graph, while_v2._WhileBodyGradFuncGraph) and any(
      outer._colocation_stack.peek_objs()
    ):
      captures = graph._forward_graph.external_captures
      resources = (t for t in captures if t.dtype == tf.resource)
      devices = {t.device for t in resources if t.device}
      if len(devices) > 1:
        raise ValueError(
          'A pipeline in a tf.while_loop has weights on several devices, '
          f'{sorted(devices)}, and gradients are to be colocated with ops. '
          'TensorFlow cannot do that in a loop, whatever the layers are. Set '
          "the learner's colocate_gradients_with_ops to False, or that of "
          'tf.gradients: a pipeline places its gradients itself.'
        )
    graph = outer
