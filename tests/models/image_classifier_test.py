# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import layer_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import learner, optimizer, py_utils, schedule

from lingvo_gpipe.models import amoebanet, image_classifier

_NUM_CLASSES = 4


def _task(**pipeline):
  network = amoebanet.AmoebaNetParams().Set(
    num_normal_cells=3,
    dim=8,
    num_classes=_NUM_CLASSES,
    input_dim=1,
    stem_stride=1,
    num_stem_reductions=0,
    normal=[(0, 'conv_1x1'), (1, 'none')],
    normal_concat=[0, 2],
    reduction=[(0, 'max_pool_2x2'), (1, 'conv_1x1')],
    reduction_concat=[2],
  )
  p = image_classifier.ImageClassifier.Params().Set(name='task')
  p.pipeline.Set(
    sub=amoebanet.AmoebaNetLayers(network),
    num_partitions=2,
    num_micro_batches=4,
  )
  p.pipeline.Set(**pipeline)
  p.loss.num_classes = _NUM_CLASSES
  p.train.learning_rate = 0.01
  return p


def _batch():
  """Twelve images, of which the last two do not count."""
  random = np.random.RandomState(6)
  return py_utils.NestedMap(
    image=tf.constant(random.randn(12, 8, 8, 1), tf.float32),
    label=tf.range(12) % _NUM_CLASSES,
    weight=tf.constant([1.0] * 10 + [0.0] * 2),
  )


def test_evaluation_in_the_pipeline_equals_the_layers_in_sequence():
  with layer_testing.graph_session(do_eval=True) as session:
    task = _task().Instantiate()
    batch = _batch()
    metrics, _ = task.FPropTower(task.theta, batch)
    decoded = task.DecodeWithTheta(task.theta, batch)
    logits = task.pipeline.FProp(task.theta.pipeline, batch.image)
    args = (batch.image,)
    for cell in task.pipeline.cells:
      args = cell.FPropDefaultTheta(*args)
      args = args if isinstance(args, tuple) else (args,)
    session.run(tf.global_variables_initializer())
    got, decoded, logits, want = session.run(
      [dict(metrics), decoded, logits, args[0]]
    )
    weight, label = session.run([batch.weight, batch.label])
  np.testing.assert_allclose(logits, want, 1e-5, 1e-5)
  right = (want.argmax(-1) == label) * weight
  assert set(got) == {'loss', 'accuracy', 'num_samples_in_batch'}
  assert got['num_samples_in_batch'] == (10.0, 1.0)
  assert got['loss'][1] == 10.0
  np.testing.assert_allclose(got['accuracy'], (right.sum() / 10.0, 10.0), 1e-6)
  assert decoded.predicted.tolist() == want.argmax(-1).tolist()
  decoder_metrics = task.CreateDecoderMetrics()
  task.PostProcessDecodeOut(decoded, decoder_metrics)
  assert decoder_metrics['num_samples_in_batch'].total_value == 10.0
  np.testing.assert_allclose(
    decoder_metrics['accuracy'].value, right.sum() / 10.0, 1e-6
  )


def test_inference_takes_images_of_any_number():
  with layer_testing.graph_session(do_eval=True) as session:
    task = _task().Instantiate()
    fetches, feeds = task.Inference()['default']
    session.run(tf.global_variables_initializer())
    for batch in (4, 6):
      values = session.run(
        fetches, {feeds['images']: np.zeros([batch, 8, 8, 1])}
      )
      assert values['logits'].shape == (batch, 4)
      np.testing.assert_allclose(values['probabilities'].sum(-1), 1.0, 1e-5)


@pytest.mark.parametrize('in_learner', [False, True])
@pytest.mark.parametrize(('total_steps', 'want'), [(0, 70), (50, 50)])
def test_a_schedule_without_an_end_ends_with_the_training(
  in_learner, total_steps, want
):
  p = _task()
  p.train.max_steps = 70
  owner = p.train
  if in_learner:
    owner = p.train.learner = learner.Learner.Params().Set(
      learning_rate=0.1, optimizer=optimizer.SGD.Params()
    )
  owner.lr_schedule = schedule.CosineSchedule.Params().Set(
    total_steps=total_steps
  )
  with layer_testing.graph_session():
    task = p.Instantiate()
  assert task.learners[0].params.lr_schedule.total_steps == want
  assert owner.lr_schedule.total_steps == total_steps
