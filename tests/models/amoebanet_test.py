# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import layer_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing import weights
from lingvo_gpipe.models import amoebanet


def _small(p=None, **params):
  p = (p or amoebanet.AmoebaNetParams()).Set(
    num_normal_cells=3, dim=16, num_classes=7
  )
  return p.Set(**params)


def _run_all(layers, images):
  """What each layer returns, as a list of tuples of tensors."""
  results = [(images,)]
  for params in layers:
    outputs = params.Instantiate().FPropDefaultTheta(*results[-1])
    results.append(outputs if isinstance(outputs, tuple) else (outputs,))
  return results[1:]


# The first two are the smallest and the largest model of the paper's Table 1,
# which gives 82M and 1.8B.
@pytest.mark.parametrize(
  ('network', 'length', 'dim', 'count'),
  [
    (amoebanet.AmoebaNetParams, 18, 208, 81_505_540),
    (amoebanet.AmoebaNetParams, 72, 512, 1_844_858_344),
    (amoebanet.AmoebaNetB, 18, 512, 560_053_608),
  ],
)
def test_number_of_parameters(network, length, dim, count):
  p = network().Set(num_normal_cells=length, dim=dim)
  layers = amoebanet.AmoebaNetLayers(p)
  assert len(layers) == length + 6
  assert weights.count_parameters(layers) == count


def test_two_tensors_cross_every_boundary_between_cells():
  with layer_testing.graph_session():
    layers = amoebanet.AmoebaNetLayers(_small(stem_dim=12))
    # Any size goes through.
    results = _run_all(layers, tf.zeros([2, 63, 45, 3]))
  shapes = [[x.shape.as_list()[1:] for x in result] for result in results]
  assert shapes == [
    [[32, 23, 12]],  # The stem.
    [[16, 12, 24], [32, 23, 12]],  # A reduction: 3 x 8 channels.
    [[8, 6, 48], [16, 12, 24]],
    [[8, 6, 64], [8, 6, 48]],  # A normal cell: 4 x 16 channels.
    [[4, 3, 96], [8, 6, 64]],
    [[4, 3, 128], [4, 3, 96]],
    [[2, 2, 192], [4, 3, 128]],
    [[2, 2, 256]],  # The last cell.
    [[7]],  # The classifier.
  ]


def test_stem_tells_shades_below_the_middle_apart():
  with layer_testing.graph_session() as session:
    stem = amoebanet.AmoebaNetLayers(_small())[0].Instantiate()
    shades = tf.reshape(tf.linspace(-1.0, -0.1, 4), [4, 1, 1, 1])
    features = stem.FProp(stem.theta, tf.tile(shades, [1, 8, 8, 3]))
    values = layer_testing.run(session, features)
  assert np.abs(np.diff(values, axis=0)).max(axis=(1, 2, 3)).min() > 0.1


@pytest.mark.parametrize(
  'network', [amoebanet.AmoebaNetParams, amoebanet.AmoebaNetB]
)
def test_every_weight_has_a_gradient_and_a_name_of_its_own(network):
  with layer_testing.graph_session() as session:
    p = _small(network(), num_stem_reductions=0)
    layers = amoebanet.AmoebaNetLayers(p)
    images = tf.random.stateless_normal([4, 32, 32, 3], seed=[1, 2])
    [logits] = _run_all(layers, images)[-1]
    loss = tf.reduce_sum(logits * tf.random.stateless_normal([4, 7], [3, 4]))
    variables = tf.trainable_variables()
    names = [v.name for v in variables]
    gradients = tf.gradients(loss, variables)
    assert all(g is not None for g in gradients)
    norms = layer_testing.run(session, [tf.norm(g) for g in gradients])
  assert len(set(names)) == len(names)
  assert {name.split('/')[0] for name in names} == {x.name for x in layers}
  assert np.isfinite(norms).all()
  assert min(norms) > 1e-4


def test_a_step_adds_two_operations():
  """A cell of the identity alone, by hand."""
  with layer_testing.graph_session(do_eval=True) as session:
    cell = layer_testing.make(
      amoebanet.AmoebaNetCell,
      input_dim=4,
      before_dim=4,
      dim=4,
      operations=[(0, 'none'), (1, 'none'), (2, 'none'), (1, 'none')],
      concat=[3, 1, 2],
    )
    random = np.random.RandomState(4)
    inputs, before = random.randn(2, 1, 2, 2, 4).astype(np.float32)
    outputs, handed_on = cell.FPropDefaultTheta(
      tf.constant(inputs), tf.constant(before)
    )
    weights, outputs, handed_on = layer_testing.run(
      session, [cell.preprocess.conv.vars.w, outputs, handed_on]
    )
  state_0 = np.maximum(inputs, 0.0) @ weights[0, 0] / np.sqrt(1.001)
  state_2 = state_0 + before
  want = np.concatenate([state_2 + before, before, state_2], -1)
  np.testing.assert_allclose(outputs, want, 1e-4, 1e-5)
  assert (handed_on == inputs).all()


def test_drop_path_falls_with_depth_and_spares_the_identity():
  p = _small()
  p.drop_path.keep_prob = 0.4
  cells = amoebanet.AmoebaNetLayers(p)[1:-1]
  kept = [cell.drop_path.keep_prob for cell in cells]
  np.testing.assert_allclose(kept, 1.0 - 0.6 * np.arange(1, 8) / 7)
  with layer_testing.graph_session():
    cell = cells[2].Instantiate()
    for layer, (_, operation) in zip(
      cell.operation, cell.params.operations, strict=True
    ):
      assert ('drop_path' in layer.children) == (operation != 'none')


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    ({'num_normal_cells': 4}, 'num_normal_cells.*multiple of 3.*got 4'),
    ({'dim': 12}, 'dim.*multiple of 8.*got 12'),
    ({'dim': 6, 'num_stem_reductions': 0}, 'dim.*multiple of 4.*got 6'),
  ],
)
def test_refuses_sizes_that_do_not_fit(params, message):
  with pytest.raises(ValueError, match=message):
    amoebanet.AmoebaNetLayers(_small(**params))


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    ({'operations': [(0, 'none'), (2, 'none')]}, 'reads state 2'),
    ({'operations': [(0, 'none'), (1, 'mul_9x9')]}, 'mul_9x9.*known are'),
    ({'concat': [3]}, r'states 0 to 2, got \[3\]'),
    ({'concat': [1], 'reduction': True}, r'states 2 to 2, got \[1\]'),
  ],
)
def test_refuses_tables_that_make_no_sense(params, message):
  cell = amoebanet.AmoebaNetCell.Params().Set(
    name='cell',
    input_dim=4,
    before_dim=4,
    dim=4,
    operations=[(0, 'conv_3x3'), (1, 'none')],
    concat=[2],
  )
  with layer_testing.refused(message):
    cell.Set(**params).Instantiate()
