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
"""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import placement

Gradient = tf.Tensor | tf.IndexedSlices | None


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
  num_outputs = len(outputs)

  @tf.custom_gradient
  def produce(*args):
    def gradient(*d_outputs):
      # A tape may leave out what it knows to be zero.
      with placement.on_device(device):
        d_outputs = [
          tf.zeros_like(t) if d is None else d
          for t, d in zip(outputs, d_outputs, strict=True)
        ]
      run_backward(d_outputs)
      with placement.on_device(device):
        d_tokens = [tf.zeros([]) for _ in tokens]
      return [None] * num_outputs + d_tokens

    return [tf.identity(t) for t in args[:num_outputs]], gradient

  with placement.on_device(device):
    # The outputs are arguments too, so that TensorFlow looks no further back
    # for variables that the gradient function should know of.
    return list(produce(*outputs, *tokens))


def _token(source: Source) -> tf.Tensor:
  """A scalar that depends on a source and passes on its gradients."""

  @tf.custom_gradient
  def link(*tensors):
    del tensors

    def gradient(d_token):
      del d_token
      return list(source.gradients())

    return tf.zeros([]), gradient

  with placement.on_device(source.device):
    return link(*source.tensors)
