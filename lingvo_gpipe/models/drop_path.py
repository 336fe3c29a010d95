# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Drop path: leaving out an operation's result for a whole example."""

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils


class DropPathLayer(base_layer.BaseLayer):
  """Sets whole examples to zero at random while training.

  An example is kept with probability q and then scaled by 1 / q. The random
  numbers come from Lingvo's step seed, so that a recomputed forward pass drops
  the same examples. Method: FractalNet, arXiv:1605.07648, as scheduled by
  Zoph et al., arXiv:1707.07012.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define(
      'keep_prob', 1.0, 'Probability q of keeping an example, in (0, 1].'
    )
    p.Define(
      'ramp_steps',
      0,
      'If positive, q falls linearly from 1 at step 0 to keep_prob at this '
      'step, and stays there.',
    )
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    if not 0.0 < p.keep_prob <= 1.0:
      raise ValueError(
        f'{p.name}: keep_prob must lie in (0, 1], got {p.keep_prob}.'
      )
    if p.ramp_steps < 0:
      raise ValueError(
        f'{p.name}: ramp_steps must not be negative, got {p.ramp_steps}.'
      )

  def FProp(self, theta, inputs):
    """Drops examples of `inputs`."""
    p = self.params
    if self.do_eval or p.keep_prob == 1.0:
      return inputs
    keep_prob = tf.constant(p.keep_prob, tf.float32)
    if p.ramp_steps:
      step = tf.cast(py_utils.GetGlobalStep(), tf.float32)
      done = tf.minimum(step / float(p.ramp_steps), 1.0)
      keep_prob = 1.0 - done * (1.0 - keep_prob)
    noise_shape = tf.concat(
      [tf.shape(inputs)[:1], tf.ones([inputs.shape.rank - 1], tf.int32)], 0
    )
    noise = tf.random.stateless_uniform(
      noise_shape, seed=py_utils.GenerateStepSeedPair(p)
    )
    # A product with zero would keep an inf or NaN of a dropped example.
    scaled = inputs * tf.cast(1.0 / keep_prob, inputs.dtype)
    return tf.where_v2(noise < keep_prob, scaled, tf.zeros_like(inputs))
