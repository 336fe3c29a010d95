# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a step of a draw, as one of its variants or without a pipeline."""

import zlib
from typing import Any

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
from drawn_layers import building, catalogue
from drawn_layers.draws import Draw, Variant
from lingvo.core import py_utils

from lingvo_gpipe.pipeline import named_values

Values = dict[str, Any]

_STEP = 3


def run(draw: Draw, variant: Variant, *, plain: bool = False) -> Values:
  """One step in a graph and a session of its own.

  Returns by name metrics and their weights, outputs, gradients or None, and
  what the step leaves in the weights that it moves by itself.
  """
  num_devices = variant.num_devices or variant.num_cells
  with pt.graph(num_devices) as graph:
    layer = building.pipeline_params(draw, variant).Instantiate()
    feeds, fetches, updates = _step_of(draw, layer, plain)
    rewriting = {'disable_meta_optimizer': not variant.optimised}
    options = {'rewrite_options': rewriting}
    with pt.session(num_devices, graph, graph_options=options) as session:
      _initialise(session)
      present = {n: t for n, t in fetches.items() if t is not None}
      values, _ = session.run([present, updates], feeds)
      moved = [v for v in tf.global_variables() if not v.trainable]
      left = dict(zip([v.name for v in moved], session.run(moved), strict=True))
  return {**{n: values.get(n) for n in fetches}, **left}


def _step_of(draw: Draw, layer: Any, plain: bool) -> Any:
  """Feeds, fetches by name, and ops to run with them."""
  feeds, x, weights = _data(draw)
  if plain:
    with named_values.scope():
      outputs = layer.cells[0].FProp(layer.theta[layer.cells[0].params.name], x)
  elif not draw.loss_inside:
    outputs = layer.FProp(layer.theta, x)
  if plain or not draw.loss_inside:
    with tf.device(layer.cell_devices[-1]):
      loss = building.WeightedSquares.Params().Set(name='loss').Instantiate()
      metrics = loss.FProp(loss.theta, outputs, weights)
  else:
    metrics = layer.ComputeLoss(layer.theta, x, weights)
  fetches = {}
  for name, (value, weight) in sorted(metrics.items()):
    fetches[name], fetches[f'{name} weight'] = value, weight
  if not draw.loss_inside:
    fetches['outputs'] = outputs
  variables = tf.trainable_variables()
  sources = [*variables, x] if draw.input_gradient else variables
  gradients = tf.gradients(
    metrics['loss'][0], sources, colocate_gradients_with_ops=True
  )
  for source, gradient in zip(sources, gradients, strict=True):
    name = 'the input' if source is x else source.name
    fetches[f'gradient of {name}'] = gradient
  updates = [*tf.get_collection(py_utils.BATCH_NORM_UPDATES)]
  with tf.control_dependencies(updates):
    updates.append(layer.PostTrainingStepUpdate())
  return feeds, fetches, tf.group(*updates)


def _data(draw: Draw) -> Any:
  """Feeds, the input, and the examples' loss weights."""
  random = np.random.RandomState(1)
  if draw.layers and draw.layers[0].kind == 'embedding':
    x = random.randint(catalogue.VOCAB_SIZE, size=(draw.batch, draw.time))
    x = x.astype(np.int32)
  else:
    x = random.randn(draw.batch, draw.time * draw.width)
    x = x.astype(getattr(tf, draw.dtype).as_numpy_dtype)
  weights = random.choice([0.5, 1.0, 2.0], size=draw.batch).astype(np.float32)
  if draw.weights == 'some_zero':
    weights[random.rand(draw.batch) < 0.5] = 0
  elif draw.weights == 'first_zero':
    weights[: max(1, draw.batch // 2)] = 0
  elif draw.weights == 'all_zero':
    weights[:] = 0
  placeholders = [tf.tf1.placeholder(a.dtype, a.shape) for a in (x, weights)]
  feeds = dict(zip(placeholders, (x, weights), strict=True))
  return feeds, *placeholders


def _initialise(session: Any) -> None:
  """Sets all variables; no trainable one has numbers as round as 0 and 1."""
  feeds = {}
  for variable in tf.global_variables():
    if variable is py_utils.GetGlobalStep():
      value = np.int64(_STEP)
    elif variable.trainable:
      value = _random_value(variable)
    else:
      continue
    feeds[variable.initializer.inputs[1]] = value
  session.run(tf.global_variables_initializer(), feeds)


def _random_value(variable: Any) -> np.ndarray:
  shape = variable.shape.as_list()
  random = np.random.RandomState(zlib.crc32(variable.name.encode()))
  large = [n for n in shape if n > 1]
  deviation = 1 / np.sqrt(np.prod(shape[:-1])) if len(large) > 1 else 0.1
  value = deviation * random.standard_normal(shape)
  return value.astype(variable.dtype.as_numpy_dtype)
