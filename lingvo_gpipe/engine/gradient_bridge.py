# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gives tensors that are already computed a gradient function of our own.

`tf.custom_gradient` passes all arguments through one op on one device, so the
weights of every cell would travel there each step unless TensorFlow's graph
optimiser removes that op. Here each device has an op for its own weights; what
crosses is a scalar, the token, that links them to the outputs:

```
  inputs            --[device 0]-- token --.
  weights of cell 0 --[device 0]-- token ---+--[last device]-- outputs
  weights of cell 1 --[device 1]-- token --'
```

TensorFlow reaches the outputs' gradient function first, which runs the
backward pass; the tokens' functions then hand out the gradients. The function
of a token is called only if something before its tensors needs gradients.

Nor does anything here outlive a graph. `tf.custom_gradient` adds each gradient
function to TensorFlow's registry, forever, and with it all that the function
refers to: layers, the engine, the graph. Here the registry has one function,
which finds the op's own where it is kept: on the op.
"""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow.compat.v1 as tf
from tensorflow.python.eager import record
from tensorflow.python.framework import func_graph
from tensorflow.python.ops import while_v2

from lingvo_gpipe.engine import placement

Gradient = tf.Tensor | tf.IndexedSlices | None
GradientFunction = Callable[..., Sequence[Gradient]]

_OP_TYPE = 'LingvoGPipeGradient'
_ATTRIBUTE = '_lingvo_gpipe_gradient'


@dataclasses.dataclass(frozen=True)
class Source:
  """Tensors on one device that the outputs depend on.

  Attributes:
    device: The device.
    tensors: Float tensors.
    gradients: Called, if they are needed, once the backward pass has run;
      returns a gradient, or None, for each tensor.
  """

  device: str
  tensors: Sequence[tf.Tensor]
  gradients: Callable[[], Sequence[Gradient]]


def attach_gradient(
  outputs: Sequence[tf.Tensor],
  sources: Sequence[Source],
  device: str,
  run_backward: Callable[[list[tf.Tensor]], None],
) -> list[tf.Tensor]:
  """Returns `outputs` with a gradient.

  Args:
    outputs: Float tensors, computed outside of any gradient tape.
    sources: What they depend on.
    device: Where the outputs are.
    run_backward: Called with a gradient for each output.
  """
  tokens = [_token(source) for source in sources if source.tensors]

  def gradient(*d_outputs: tf.Tensor | None) -> list[Gradient]:
    _check_loops()
    # A tape may leave out what it knows to be zero.
    with placement.on_device(device):
      given = [
        tf.zeros_like(t) if d is None else d
        for t, d in zip(outputs, d_outputs, strict=True)
      ]
    run_backward(given)
    with placement.on_device(device):
      return [tf.zeros([]) for _ in tokens]

  with placement.on_device(device):
    return _with_gradient(outputs, tokens, gradient)


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


def _token(source: Source) -> tf.Tensor:
  """A scalar that depends on a source and passes on its gradients."""
  with placement.on_device(source.device):
    [token] = _with_gradient(
      [tf.zeros([])], source.tensors, lambda unused_d_token: source.gradients()
    )
  return token


def _with_gradient(
  outputs: Sequence[tf.Tensor],
  depends_on: Sequence[tf.Tensor],
  gradient: GradientFunction,
) -> list[tf.Tensor]:
  """Copies of tensors that have a gradient function.

  Args:
    outputs: The tensors.
    depends_on: What the gradient function gives gradients of.
    gradient: Maps a gradient of each output to one of each tensor in
      `depends_on`; each may be None.
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
