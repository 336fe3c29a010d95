# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The gradient of a pipeline's outputs, as TensorFlow finds it.

`tf.custom_gradient` would send all weights to one op on one device. Here each
device has an op for its own weights; what crosses is a scalar, the token:

```
  inputs            --[device 0]-- token --.
  weights of cell 0 --[device 0]-- token ---+--[last device]-- outputs
  weights of cell 1 --[device 1]-- token --'
```

TensorFlow reaches the outputs' gradient function first, which runs the
backward pass; the tokens' functions then hand out what is asked for. Functions
are kept on their op, not in TensorFlow's registry, which keeps them forever.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import lingvo.compat as tf
from tensorflow.python.eager import record
from tensorflow.python.framework import func_graph
from tensorflow.python.ops import while_v2

from lingvo_gpipe.engine import micro_batches
from lingvo_gpipe.engine.engine import (
  Engine,
  Gradients,
  LossGradients,
  run_tasks,
)
from lingvo_gpipe.engine.tensors import (
  differentiable,
  on_device,
  sum_dtype,
  value_dtype,
)
from lingvo_gpipe.pipeline.mini_batch import Leaf, MiniBatch
from lingvo_gpipe.schedules import TaskKind

Gradient: TypeAlias = tf.Tensor | tf.IndexedSlices | None
GradientFunction = Callable[..., Sequence[Gradient]]

_OP_TYPE = 'LingvoGPipeGradient'
_ATTRIBUTE = '_lingvo_gpipe_gradient'


@dataclasses.dataclass(frozen=True)
class BackwardPass:
  """A backward pass in the graph; half-precision gradients are float32."""

  gradients: Gradients
  scale: tf.Tensor | None = None

  def scaled(self, gradient: Any, dtype: tf.DType) -> Any:
    if gradient is None:
      return None
    if isinstance(gradient, tf.IndexedSlices):
      values = self.scaled(gradient.values, dtype)
      return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    if self.scale is not None:
      wide = sum_dtype(gradient.dtype)
      gradient = tf.cast(gradient, wide) * tf.cast(self.scale, wide)
    return tf.cast(gradient, dtype.base_dtype)


@dataclasses.dataclass(frozen=True)
class Source:
  """Float tensors on one device that the outputs depend on."""

  device: str
  tensors: Sequence[tf.Tensor]
  gradients: Callable[[BackwardPass], Sequence[Gradient]]


def of_leaves(
  device: str,
  leaves: Sequence[Leaf],
  num_micro_batches: int,
  get: Callable[[Gradients, int], Sequence[Any]],
) -> Source:
  kept = [differentiable(leaf.tensor) for leaf in leaves]
  floats = list(itertools.compress(leaves, kept))

  def merged(backward: BackwardPass) -> list[Any]:
    rows = [get(backward.gradients, m) for m in range(num_micro_batches)]
    with on_device(device):
      whole = micro_batches.merge_gradients(
        [list(itertools.compress(row, kept)) for row in rows],
        [leaf.dim for leaf in floats],
      )
      return [
        backward.scaled(d, leaf.tensor.dtype)
        for d, leaf in zip(whole, floats, strict=True)
      ]

  return Source(device, [leaf.tensor for leaf in floats], merged)


def of_weights(engine: Engine, k: int) -> Source:
  weights = engine.traced.weights(k)
  kept = [differentiable(w) for w in weights]
  device = engine.traced.cells[k].device

  def gradients(backward: BackwardPass) -> list[Any]:
    pairs = zip(backward.gradients.of_weights(k), weights, strict=True)
    with on_device(device):
      return [
        backward.scaled(d, value_dtype(w))
        for d, w in itertools.compress(pairs, kept)
      ]

  return Source(device, list(itertools.compress(weights, kept)), gradients)


def refusing(device: str, tensors: Sequence[tf.Tensor], message: str) -> Source:
  """Tensors of which a gradient must not be asked for.

  It is an error, not None, which a learner would skip. A gradient tape asks for
  all that there is: it gets NaN inside of `tf.function`, None outside of it.
  """
  tensors = [t for t in tensors if differentiable(t)]

  def refuse(backward: BackwardPass) -> list[tf.Tensor | None]:
    del backward
    if tf.executing_eagerly():
      return [None] * len(tensors)
    if not tf.get_default_graph().building_function:
      raise ValueError(message)
    nan = float('nan')
    return [tf.fill(tf.shape(t), tf.constant(nan, t.dtype)) for t in tensors]

  return Source(device, tensors, refuse)


def with_loss_outside(
  engine: Engine,
  sources: Sequence[Source],
  outputs: Sequence[tf.Tensor],
  parts: Sequence[Sequence[tf.Tensor]],
  dims: micro_batches.Dims,
  batch: MiniBatch,
) -> list[tf.Tensor]:
  """Attaches the gradient; backward tasks run when TensorFlow asks for it.

  `outputs` are the last cell's differentiable ones, joined of each
  micro-batch's `parts` along `dims`, then the auxiliary losses.
  """
  cells = engine.traced.cells
  device = cells[-1].device

  def run_backward(d_outputs: list[tf.Tensor]) -> BackwardPass:
    d_losses = d_outputs[len(dims) :]
    with on_device(device):
      split = micro_batches.split_gradients(d_outputs[: len(dims)], parts, dims)

    def of_losses(k: int, m: int) -> list[tf.Tensor]:
      counts = [len(engine.results(j, m).losses) for j in range(k + 1)]
      with on_device(cells[k].device):
        return [
          tf.cast(batch.shares[m], d.dtype) * d
          for d in d_losses[sum(counts[:k]) : sum(counts)]
        ]

    tasks = engine.traced.schedule.in_order()
    backward = [task for task in tasks if task.kind != TaskKind.FORWARD]
    start = LossGradients(lambda m: split[m], of_losses)
    return BackwardPass(run_tasks(engine, backward, start))

  return attach(outputs, sources, device, run_backward)


def with_loss_inside(
  sources: Sequence[Source],
  device: str,
  loss: tf.Tensor,
  weight: tf.Tensor,
  run: Callable[[], BackwardPass],
) -> tf.Tensor:
  """Attaches the gradient to the loss inside, or another metric.

  `run` gives the gradients of its `scale` x `weight` x `loss`.
  """

  def run_backward(d_outputs: list[tf.Tensor]) -> BackwardPass:
    backward = run()
    with on_device(device):
      scale = tf.math.divide_no_nan(d_outputs[0], weight * backward.scale)
    return dataclasses.replace(backward, scale=scale)

  return attach([loss], sources, device, run_backward)[0]


def attach(
  outputs: Sequence[tf.Tensor],
  sources: Sequence[Source],
  device: str,
  run_backward: Callable[[list[tf.Tensor]], BackwardPass],
) -> list[tf.Tensor]:
  """Returns tensors, computed outside of any gradient tape, with a gradient."""
  done: list[BackwardPass] = []
  tokens = []
  for source in (source for source in sources if source.tensors):
    with on_device(source.device):
      tokens += _with_gradient(
        [tf.zeros([])],
        source.tensors,
        lambda unused_d_token, source=source: source.gradients(done[0]),
      )

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


def _with_gradient(
  outputs: Sequence[tf.Tensor],
  depends_on: Sequence[tf.Tensor],
  gradient: GradientFunction,
) -> list[tf.Tensor]:
  """Copies of tensors; their gradients are mapped to those of `depends_on`."""
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
  if not hasattr(op, _ATTRIBUTE):
    raise ValueError(
      f'The op {op.name!r} passes on the gradient of a pipeline, but is a copy '
      'of the one that was built: its graph was written out and read in again. '
      'The copy can run, but not be differentiated. Build the pipeline again '
      'where you need its gradients.'
    )
  return getattr(op, _ATTRIBUTE)(*d_results)


def _check_loops() -> None:
  """Zeros for a variable would be colocated with it and with the loop."""
  graph = tf.get_default_graph()
  while isinstance(graph, func_graph.FuncGraph):
    loop, graph = graph, graph.outer_graph
    if not isinstance(loop, while_v2._WhileBodyGradFuncGraph) or not any(
      graph._colocation_stack.peek_objs()
    ):
      continue
    captures = loop._forward_graph.external_captures
    devices = {t.device for t in captures if t.dtype == tf.resource} - {''}
    if len(devices) > 1:
      raise ValueError(
        'A pipeline in a tf.while_loop has weights on several devices, '
        f'{sorted(devices)}, and gradients are to be colocated with ops. '
        'TensorFlow cannot do that in a loop, whatever the layers are. Set '
        "the learner's colocate_gradients_with_ops to False, or that of "
        'tf.gradients: a pipeline places its gradients itself.'
      )
