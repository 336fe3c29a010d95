# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import declared
import lingvo.compat as tf
from lingvo.core import py_utils

from lingvo_gpipe.costing import layer_profile, measured_costs, weights
from lingvo_gpipe.named_layers import NamedValueLayer

WIDTH = 6


def spec(*shape, dtype=tf.float32):
  return tf.TensorSpec(shape, dtype)


class WithWeight(declared.Layer):
  """A function of its arguments and a weight w, the weight last."""

  PARAMS = {'shape': [WIDTH, WIDTH], 'function': None}

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    self.CreateVariable('w', py_utils.WeightParams(p.shape, dtype=p.dtype))

  def FProp(self, theta, *args):
    return self.params.function(*args, theta.w)


def computing(function, shape=(WIDTH, WIDTH), name='layer'):
  return WithWeight.Params().Set(name=name, function=function, shape=shape)


class Linear(WithWeight):
  """tanh(x w) of [batch, WIDTH], with an int tensor that is handed on."""

  traced = 0

  def FProp(self, theta, x, ids=None):
    Linear.traced += 1
    y = tf.tanh(tf.matmul(x, theta.w))
    return y if ids is None else (y, ids)


def linear(*names):
  return [Linear.Params().Set(name=name) for name in names]


class Tied(NamedValueLayer):
  def FProp(self, theta, x):
    return tf.matmul(x, theta.tied, transpose_b=True)


def profiles(layers, input_specs, named_specs=None, **training):
  names = [params.name for params in layers]
  return layer_profile.profile_layers(
    layers, names, input_specs, weights.Training(**training), named_specs
  )


def flops_costs(layers, input_specs, **kwargs):
  return [profile.cost for profile in profiles(layers, input_specs, **kwargs)]


def measured(layers, input_specs, file=None):
  return measured_costs.measure_profiles(profiles(layers, input_specs), file)


def parameter_costs(layers, **training):
  names = [params.name for params in layers]
  return weights.parameter_costs(layers, names, weights.Training(**training))
