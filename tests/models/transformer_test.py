# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
import transformer_testing as tt

from lingvo_gpipe.costing import weights
from lingvo_gpipe.models import transformer
from lingvo_gpipe.pipeline import named_values, tied_weights


def _unpipelined(layer, examples):
  """Loss of the layers in sequence on the whole mini-batch, without engine."""
  ids, targets, side = tt.inputs(examples)
  theta = tied_weights.tie(layer, layer.theta)
  with named_values.scope(side):
    x = ids
    for cell in layer.cells:
      x = cell.FProp(theta[cell.params.name], x)
    return layer.loss.FProp(theta.loss, x, targets)


def test_pipelined_equals_unpipelined_with_tied_weights():
  net = tt.network(
    tied=True, dropout=0.0, attention_dropout=0.0, hidden_dropout=0.0
  )
  params = tt.pipeline(2, net)
  want = pt.run_step(
    params, None, compute=lambda layer: _unpipelined(layer, tt.batch())
  )
  got = tt.run_step(params)
  pt.assert_close(got, want)
  for name, value in want.metrics.items():
    np.testing.assert_allclose(got.metrics[name], value, 1e-5)
  assert [name for name in got.gradients if 'table' in name] == [
    'net/embedding/table/var:0'
  ]
  assert all(np.abs(g).max() > 0.0 for g in got.gradients.values())


def test_bits_do_not_depend_on_cut_and_schedule():
  """With dropout, packed rows, tied weights, uneven micro-batches."""
  net = tt.network(tied=True)
  results = [
    tt.run_step(tt.pipeline(num_cells, net, schedule=schedule))
    for num_cells, schedule in ((1, 'gpipe'), (2, '1f1b'), (4, '1f1b'))
  ]
  for result in results[1:]:
    pt.assert_identical(result, results[0])


def _logits(net, examples):
  def build():
    layer = tt.pipeline(2, net, num_micro_batches=2).Instantiate()
    results = []
    for example in examples:
      ids, _, side = tt.inputs(example, net.packed)
      results.append(layer.FProp(layer.theta, ids, side_inputs=side))
    return results

  return tiny_pipeline.run(build, num_devices=2, do_eval=True)


def test_a_segment_is_as_if_alone_in_its_row():
  examples = tt.batch()
  alone = examples.copy()
  alone.ids = np.roll(examples.ids, -2, axis=1)
  alone.segment_ids = np.tile(np.int32([1, 1, 1, 0, 0, 0]), [tt.BATCH, 1])
  alone.segment_pos = np.tile(np.int32([0, 1, 2, 0, 0, 0]), [tt.BATCH, 1])
  packed, alone = _logits(tt.network(), [examples, alone])
  np.testing.assert_allclose(alone[1:, :3], packed[1:, 2:5], 1e-5, 1e-6)


def test_rows_that_are_not_packed_equal_rows_of_one_segment():
  examples = tt.batch()
  examples.segment_ids[:] = 1
  examples.segment_pos[:] = np.arange(tt.TIME)
  [packed] = _logits(tt.network(), [examples])
  [plain] = _logits(tt.network(packed=False), [examples])
  np.testing.assert_allclose(plain, packed, 1e-5, 1e-6)


def test_bfloat16_activations_with_float32_weights():
  def params(**kwargs):
    net = tt.network(tied=True, num_layers=1)
    return tt.pipeline(2, net, **kwargs)

  half = params(fprop_dtype=tf.bfloat16)
  got, want = tt.run_step(half), tt.run_step(params())
  assert got.metrics['loss'][0] == pytest.approx(
    want.metrics['loss'][0], rel=0.02
  )
  error, norm = 0.0, 0.0
  for name, gradient in want.gradients.items():
    error += np.square(got.gradients[name] - gradient).sum()
    norm += np.square(gradient).sum()
  assert 0.0 < error < 0.1**2 * norm
  assert {g.dtype.name for g in got.gradients.values()} == {'float32'}


@pytest.mark.parametrize('tied', [False, True])
def test_number_of_parameters(tied):
  dim, layers = 8, 2
  layer = 12 * dim**2 + (2 * 2 + 3 + 1 + 4 + 1) * dim
  want = layers * layer + 2 * dim + tt.VOCAB  # The last norm, and biases.
  want += (1 if tied else 2) * tt.VOCAB * dim
  net = tt.network(tied=tied, hidden_dim=4 * dim)
  subs = transformer.TransformerLayers(net)
  assert weights.count_parameters(subs) == want


def test_initial_loss_is_near_that_of_guessing():
  net = tt.network(model_dim=32, hidden_dim=64, num_layers=8)
  params = tt.pipeline(1, net, num_micro_batches=1)
  loss = tt.run_step(params, do_eval=True).metrics['loss'][0]
  assert abs(loss - np.log(tt.VOCAB)) < 1.0


def test_refuses_an_odd_width():
  with pytest.raises(ValueError, match=r'model_dim must be even .* got 7'):
    transformer.TransformerLayers(tt.network(model_dim=7))
