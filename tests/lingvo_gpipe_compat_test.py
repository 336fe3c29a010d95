# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What models written for lingvo.core.gpipe count on, with our classes."""

import lingvo.compat as tf
import pytest
import tiny_pipeline
from lingvo.core import base_layer, gpipe, layers, py_utils, tshape

from lingvo_gpipe import lingvo_models, pipelining_layer
from lingvo_gpipe.pipeline import plain_run

_SHAPE = (8, tiny_pipeline.WIDTH)


@pytest.fixture(autouse=True)
def _our_engine():
  with lingvo_models.our_engine():
    assert gpipe.PipeliningLayer is pipelining_layer.PipeliningLayer
    yield


class _Calls(base_layer.Accumulator):
  def DefaultValue(self):
    return tf.constant(0.0)


class _Counted(tiny_pipeline.Linear):
  """Counts its calls."""

  PARAMS = {'flops': 1}

  def __init__(self, params):
    super().__init__(params)
    self.RegisterAccumulator('calls', _Calls())

  def FProp(self, theta, x):
    calls = self.accumulators.calls
    calls.SetValue(calls.GetValue() + 1.0)
    return super().FProp(theta, x)

  @classmethod
  def FPropMeta(cls, p, shape):
    return py_utils.NestedMap(flops=p.flops, out_shapes=(shape,))


def _layers(count):
  return [_Counted.Params().Set(name=f'l{i}') for i in range(count)]


def _pipeline(cells, **kwargs):
  return gpipe.PipeliningLayer.Params().Set(
    name='net', cell_tpl=cells, **kwargs
  )


def _run(params):
  def build():
    layer = params.Instantiate()
    x = tf.constant(tiny_pipeline.inputs())
    outputs = tf.nest.flatten(layer.FPropDefaultTheta(x))
    loss = tf.add_n([tf.reduce_sum(tf.square(t)) for t in outputs])
    gradients = tf.gradients(loss, tf.trainable_variables())
    return outputs, gradients, layer.GetAccumulatorValues().Flatten()

  return tiny_pipeline.run(build, num_devices=4)


def _fetching_cells(num_cells):
  """Cells of which the first fetches its output for the last to return."""
  size = 8 // num_cells
  subs = _layers(8)
  cells = []
  for k in range(num_cells):
    sub = subs[k * size : (k + 1) * size]
    if k == 0:
      sub.append(layers.FetchLayer.Params().Set(name='fetch'))
    cells.append(
      gpipe.FeatureExtractionLayer.Params().Set(
        name=f'part{k}',
        sub=sub,
        act_fetch_layers=['fetch'] if k == 0 else [],
        num_act_inputs=min(k, 1),
        num_act_outputs=1,
      )
    )
  return cells


@pytest.mark.parametrize('num_cells', [1, 2, 4])
def test_a_fetched_activation_comes_out_and_layers_count_their_calls(num_cells):
  params = _pipeline(
    _fetching_cells(num_cells), num_micro_batches=4, micro_batch_size=2
  )
  outputs, gradients, calls = _run(params)
  with plain_run.without_pipeline():
    expected, expected_gradients, _ = _run(params)
  assert calls == [4.0] * 8
  assert [t.shape for t in outputs] == [_SHAPE] * 2
  got = outputs, gradients
  tiny_pipeline.assert_close(got, (expected, expected_gradients), 1e-4)


@pytest.mark.parametrize('num_cells', [2, 4])
def test_cells_cut_by_partition_sequential_layers(num_cells):
  shape = tshape.Shape(_SHAPE)
  cells = gpipe.PartitionSequentialLayers(_layers(8), num_cells, shape)
  assert [len(cell.sub) for cell in cells] == [8 // num_cells] * num_cells
  # As models for Lingvo's engine do, with the layers in cells of their own.
  cells = [
    gpipe.FeatureExtractionLayer.Params().Set(name=f'd{k}', sub=cell.sub)
    for k, cell in enumerate(cells)
  ]
  _, _, calls = _run(_pipeline(cells, num_micro_batches=4))
  assert calls == [4.0] * 8


def test_the_cut_follows_the_flops_that_layers_say():
  subs = _layers(4)
  subs[0].flops = 3
  cells = gpipe.PartitionSequentialLayers(subs, 2, tshape.Shape(_SHAPE))
  assert [len(cell.sub) for cell in cells] == [1, 3]
