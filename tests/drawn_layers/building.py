# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from typing import Any

import lingvo.compat as tf
from drawn_layers import catalogue, fitting, own_layers, tuple_layers
from drawn_layers.draws import Draw, Layer, Variant
from lingvo.core import base_layer, builder_layers

from lingvo_gpipe import named_layers, sequential_layer
from lingvo_gpipe.pipeline import flat_layers


class WeightedSquares(base_layer.BaseLayer):
  """The mean of each example's mean square, by weights; and a second metric."""

  def FProp(self, theta, outputs, weights):
    """Metrics of outputs [batch, ...] and weights, float32 [batch]."""
    outputs = tf.cast(outputs, tf.float32)
    losses = tf.reduce_mean(
      tf.square(tf.reshape(outputs, [tf.shape(outputs)[0], -1]) - 0.3), axis=1
    )
    total = tf.reduce_sum(weights)
    mean = tf.math.divide_no_nan(tf.reduce_sum(losses * weights), total)
    largest = tf.reduce_max(tf.abs(outputs))
    return {'loss': (mean, total), 'largest': (largest, tf.constant(1.0))}


def pipeline_params(draw: Draw, variant: Variant) -> Any:
  p = sequential_layer.GPipeSequentialLayer.Params().Set(
    name='net',
    sub=layer_params(draw),
    num_partitions=variant.num_cells,
    splits=list(variant.cuts),
    num_micro_batches=draw.num_micro_batches,
    schedule=variant.schedule,
    recompute=variant.recompute,
    fprop_dtype=getattr(tf, draw.dtype),
  )
  if not isinstance(variant.recompute, str):
    names = [layer.name for layer in flat_layers.flatten(p.sub, p)]
    p.recompute = [names[i] for i in variant.recompute if i < len(names)]
  if draw.loss_inside:
    p.loss_tpl = WeightedSquares.Params().Set(name='loss')
  return p


def num_layers(layers: tuple[Layer, ...]) -> int:
  """Between how many layers the pipeline can be cut, plus one."""
  count, is_open = 0, False
  for layer in layers:
    is_open = (is_open or layer.kind == fitting.FORK) and (
      layer.kind != fitting.JOIN
    )
    parts = 1
    if layer.kind == fitting.SEQUENTIAL and not is_open:
      parts = layer.options['repeat'] * num_layers(layer.sub)
    count += parts
  return count


def layer_params(draw: Draw) -> list[Any]:
  form, is_open = catalogue.ROWS, False
  params = []
  for i, layer in enumerate(draw.layers):
    if layer.kind == fitting.RESHAPE:
      form = layer.options['form']
    elif layer.kind == 'embedding':
      form = catalogue.SEQUENCE
    p = _params(layer, draw, form)
    if layer.kind == fitting.FORK:
      is_open = True
    elif layer.kind == fitting.JOIN:
      is_open = False
    elif is_open and layer.kind not in _TAKE_ALL:
      p = tuple_layers.OfFirst.Params().Set(body=p.Set(name='body'))
    params.append(p.Set(name=f'{layer.kind}_{i}'))
  return params


_TAKE_ALL = (fitting.TURN, fitting.PUT, fitting.TAKE)
_TUPLE_LAYERS = {
  fitting.FORK: tuple_layers.Fork,
  fitting.TURN: tuple_layers.Turn,
  fitting.JOIN: tuple_layers.Join,
}


def _params(layer: Layer, draw: Draw, form: str) -> Any:
  shape = catalogue.shape_of(form, draw.time, draw.width)
  if layer.kind in catalogue.KINDS:
    return catalogue.KINDS[layer.kind].make(shape[-1], **layer.options)
  if layer.kind in _TUPLE_LAYERS:
    return _TUPLE_LAYERS[layer.kind].Params().Set(width=shape[-1])
  if layer.kind == fitting.RESHAPE:
    return own_layers.Reshape.Params().Set(shape=shape)
  if layer.kind == fitting.PUT:
    return named_layers.PutLayer.Params().Set(
      puts=[layer.options['name']], argument=0
    )
  if layer.kind == fitting.TAKE:
    return named_layers.TakeLayer.Params().Set(takes=[layer.options['name']])
  if layer.kind == fitting.SEQUENTIAL:
    return builder_layers.SequentialLayer.Params().Set(
      sub=[
        _params(sub, draw, form).Set(name=f'{sub.kind}_{i}')
        for i, sub in enumerate(layer.sub)
      ],
      repeat=layer.options['repeat'],
    )
  raise ValueError(f'There is no kind of layer {layer.kind!r}.')


def plain_agrees(layers: tuple[Layer, ...]) -> bool:
  """Whether the model without a pipeline gives about the same numbers."""
  return all(
    plain_agrees(layer.sub)
    and (layer.kind not in catalogue.KINDS or catalogue.KINDS[layer.kind].plain)
    # The largest number of a micro-batch is among the values it makes.
    and layer.kind != fitting.FORK
    for layer in layers
  )
