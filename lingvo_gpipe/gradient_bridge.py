# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Gives tensors that are already computed a gradient function of our own.

`tf.custom_gradient` passes all arguments through one op on one device, so the
weights of every cell would travel there each step unless TensorFlow's graph
optimiser removes that op. Here each device has an op for its own weights; what
crosses is a scalar, the token, that links them to the outputs:

```
  weights of cell 0 --[device 0]-- token --.
  weights of cell 1 --[device 1]-- token ---+--[last device]-- outputs
  inputs, raw outputs ---------------------'
```

TensorFlow reaches the outputs' gradient function first, which computes all
gradients at once; the tokens' functions then hand out those of their weights.
"""

import dataclasses
from collections.abc import Callable, Sequence

import tensorflow.compat.v1 as tf

from lingvo_gpipe import placement

Gradient = tf.Tensor | tf.IndexedSlices | None


@dataclasses.dataclass(frozen=True)
class WeightGroup:
  """Weights that live on one device."""

  device: str
  weights: Sequence[tf.Tensor]


def attach_gradient(
  outputs: Sequence[tf.Tensor],
  inputs: Sequence[tf.Tensor],
  groups: Sequence[WeightGroup],
  device: str,
  gradient_fn: Callable[
    [list[tf.Tensor]], tuple[list[Gradient], list[list[Gradient]]]
  ],
) -> list[tf.Tensor]:
  """Returns `outputs` with a gradient.

  Args:
    outputs: Float tensors computed outside of any gradient tape.
    inputs: Float tensors they depend on.
    groups: The weights they depend on.
    device: Where the outputs are.
    gradient_fn: Takes a gradient for each output; returns one, or None, for
      each input and, in a list for each group, each weight.
  """
  results: dict[str, list[list[Gradient]]] = {}
  tokens = [_token(group, results, i) for i, group in enumerate(groups)]
  num_outputs, num_tokens = len(outputs), len(tokens)

  @tf.custom_gradient
  def produce(*args):
    def gradient(*d_outputs):
      d_inputs, d_groups = gradient_fn(list(d_outputs))
      results['groups'] = d_groups
      with placement.on_device(device):
        d_tokens = [tf.zeros([]) for _ in range(num_tokens)]
      return [None] * num_outputs + list(d_inputs) + d_tokens

    return [tf.identity(t) for t in args[:num_outputs]], gradient

  with placement.on_device(device):
    # The outputs are arguments too, so that TensorFlow looks no further back
    # for variables that the gradient function should know of.
    return list(produce(*outputs, *inputs, *tokens))


def _token(
  group: WeightGroup, results: dict[str, list[list[Gradient]]], index: int
) -> tf.Tensor:
  """A scalar that depends on the weights and passes on their gradients."""

  @tf.custom_gradient
  def link(*weights):
    del weights

    def gradient(d_token):
      del d_token
      return results['groups'][index]

    return tf.zeros([]), gradient

  with placement.on_device(group.device):
    return link(*group.weights)
