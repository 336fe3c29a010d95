# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Max pooling whose gradient is fast where it is a function of its own.

The gradient of TensorFlow's MaxPool reads its result, which in a pipeline comes
out of another function. oneDNN has a kernel for it, twenty times as fast as
TensorFlow's own, but only where it finds the two ops in one function, one
reading the other:

```
  forward function   x --> MaxPool --> y
                     |
  its gradient       '---> MaxPool --> MaxPoolGrad --> gradient of x
```

So here the gradient computes the maximum again, which takes little time, and a
micro-batch that keeps its activations need not keep y for it.
"""

import lingvo.compat as tf

_GRADIENT = 'LingvoGpipeMaxPool'


def max_pool(
  images: tf.Tensor, window: int, stride: int, name: str | None = None
) -> tf.Tensor:
  """The maximum over square windows; padding does not count.

  Args:
    images: [batch, h, w, dim].
    window: Height and width of a window.
    stride: The step from one to the next, in both directions.
    name: The op's name.

  Returns:
    [batch, ceil(h / stride), ceil(w / stride), dim].
  """
  with tf.tf1.get_default_graph().gradient_override_map({'MaxPool': _GRADIENT}):
    return tf.nn.max_pool2d(images, window, stride, 'SAME', name=name)


@tf.RegisterGradient(_GRADIENT)
def _max_pool_gradient(op: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
  images = op.inputs[0]
  how = {
    name: op.get_attr(name)
    for name in ('ksize', 'strides', 'padding', 'data_format')
  }
  how['padding'] = how['padding'].decode()
  how['data_format'] = how['data_format'].decode()
  return tf.raw_ops.MaxPoolGrad(
    orig_input=images,
    orig_output=tf.raw_ops.MaxPool(input=images, **how),
    grad=gradient,
    **how,
  )
