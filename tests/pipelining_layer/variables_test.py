# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Variables: named without the cells, and on their cells' devices."""

import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import tiny_pipeline
from lingvo.core import builder_layers

_NAMES = ('l0', 'l1', 'l2', 'l3')


def _params(num_cells):
  return tiny_pipeline.pipeline(tiny_pipeline.linear(*_NAMES), num_cells)


def test_layers_of_different_cells_may_share_names_if_cells_tell_them_apart(
  caplog,
):
  cells = [
    pt.cells(tiny_pipeline.linear('a'), 1)[0].Set(name=name)
    for name in ('x', 'y')
  ]
  with caplog.at_level('WARNING'), pt.cluster(2), tf.Graph().as_default():
    tiny_pipeline.pipeline([]).Set(cell_tpl=cells).Instantiate()
    names = [v.op.name for v in tf.global_variables()]
  assert names == ['net/x/a/w/var', 'net/y/a/w/var']
  assert "layers of different cells have the same names, ['a']" in caplog.text


def _outputs(params, path):
  """Saves a checkpoint, or restores the one that is there; then the outputs."""
  with pt.graph(4) as graph:
    tf.random.set_seed(1 if list(path.parent.iterdir()) else 2)
    layer = params.Instantiate()
    y = layer.FPropDefaultTheta(tf.constant(tiny_pipeline.inputs()))
    with pt.session(4, graph) as sess:
      saver = tf.train.Saver()
      if path.with_suffix('.index').exists():
        saver.restore(sess, str(path))
      else:
        sess.run(tf.global_variables_initializer())
        saver.save(sess, str(path))
      return sess.run(y)


def test_a_checkpoint_fits_other_cuts_and_no_pipeline_at_all(tmp_path):
  path = tmp_path / 'model'
  saved = _outputs(_params(2), path)
  np.testing.assert_array_equal(_outputs(_params(4), path), saved)
  plain = builder_layers.SequentialLayer.Params().Set(
    name='net', sub=tiny_pipeline.linear(*_NAMES)
  )
  np.testing.assert_allclose(_outputs(plain, path), saved, rtol=1e-5)


def test_weights_gradients_and_slots_are_on_their_cells_device():
  subs = tiny_pipeline.linear(*_NAMES)
  with pt.graph(4) as graph:
    net = tiny_pipeline.with_loss(subs, 4, schedule='1f1b')
    task = tiny_pipeline.build_training(net)
    devices = task.net.cell_devices
    assert len(set(devices)) == 4
    for k, name in enumerate(_NAMES):
      mine = [
        v
        for v in tf.global_variables()
        if v.op.name.startswith(f'task/net/{name}/')
      ]
      assert len(mine) == 3, mine  # The weight, and Adam's two moments.
      assert {v.device for v in mine} == {devices[k]}
      updates = [
        op
        for op in graph.get_operations()
        if op.type == 'ResourceApplyAdam' and op.inputs[0] is mine[0].handle
      ]
      assert [op.device for op in updates] == [devices[k]]
    with pt.session(4, graph) as sess:
      sess.run(tf.global_variables_initializer())
      sess.run(task.train_op)
