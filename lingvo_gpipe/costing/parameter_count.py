# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many parameters a model has, without giving them memory."""

import concurrent.futures
import math

import lingvo.compat as tf
from lingvo.core import cluster_factory, py_utils


def count_parameters(params, trainable_only=True):
  """Counts the parameters of layers without allocating them.

  The layers are built in a graph of their own, where a variable takes no
  memory until it is initialised. Layers of a list that differ in nothing but
  their name are built once.

  Args:
    params: Params of a layer, or a list or tuple of them, to any depth.
    trainable_only: Leave out what is not trained, such as the moving averages
      of batch norm.

  Returns:
    The number of scalars in all variables, an int.
  """
  # Within another layer's __init__, Lingvo would take the layers built here
  # for that layer's children. It keeps book of them by thread.
  with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
    return thread.submit(_count, params, trainable_only, {}).result()


def _count(params, trainable_only, known):
  if isinstance(params, (list, tuple)):
    return sum(_count(x, trainable_only, known) for x in params)
  key = params.Copy().Set(name='layer').ToText()
  if key not in known:
    known[key] = _count_built(params, trainable_only)
  return known[key]


def _count_built(params, trainable_only):
  # Outside of any cluster each look at the current one would build another.
  with tf.Graph().as_default(), cluster_factory.Current():
    py_utils.GetOrCreateGlobalStepVar()
    layer = params.Copy().Set(name=params.name or 'layer').Instantiate()
    variables = {id(v): v for v in layer.vars.Flatten()}.values()
    return sum(
      math.prod(v.shape.as_list())
      for v in variables
      if v.trainable or not trainable_only
    )
