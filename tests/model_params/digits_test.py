# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the registered models for handwritten digits."""

import numpy as np
import pipeline_testing as pt
import pytest
import tensorflow.compat.v1 as tf
from lingvo import datasets, model_registry
from tensorflow.core.protobuf import rewriter_config_pb2

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe.costing import weights

# Optimising the graph twice takes longer than these few steps.
_OPTIMISED_ONCE = tf.GraphOptions(
  rewrite_options=rewriter_config_pb2.RewriterConfig(
    meta_optimizer_iterations=rewriter_config_pb2.RewriterConfig.ONE
  )
)


def _params(dataset, model='AmoebaNetD'):
  return model_registry.GetParams(f'image.digits.{model}', dataset).Copy()


@pytest.mark.parametrize('model', ['AmoebaNetD', 'AmoebaNetB'])
def test_is_a_whole_amoebanet(model):
  task = _params('Train', model).task
  layers = task.pipeline.sub
  names = [layer.name for layer in layers]
  assert names == [
    'stem',
    'normal_0',
    'reduction_0',
    'normal_1',
    'reduction_1',
    'normal_2',
    'classifier',
  ]
  count = weights.count_parameters(layers)
  assert 300_000 < count < 500_000


def test_defaults_are_those_of_the_main_job():
  pipeline = _params('Train').task.pipeline
  assert pipeline.num_micro_batches == 8
  assert pipeline.schedule == '1f1b'
  assert pipeline.recompute == 'always'


def test_lingvo_lists_the_data_sets():
  model = model_registry.GetClass('image.digits.AmoebaNetD')
  assert datasets.GetDatasets(model) == ['Test', 'Train']


def test_trains_and_evaluates_in_two_cells():
  train = _params('Train')
  train.input.batch_size = 32
  train.task.pipeline.num_micro_batches = 2
  train.task.train.max_steps = 6
  train.task.train.learning_rate = 0.003
  train.task.train.lr_schedule.warmup_steps = 1
  with (
    pt.cluster(2),
    tf.Graph().as_default(),
    pt.session(2, graph_options=_OPTIMISED_ONCE) as session,
  ):
    tf.set_random_seed(1)
    model = train.Instantiate()
    model.ConstructFPropBPropGraph()
    task = model.GetTask()
    assert len(task.pipeline.cells) == 2
    session.run(tf.global_variables_initializer())
    task.input.Initialize(session)
    steps = [
      session.run([task.eval_metrics, task.train_op])[0] for _ in range(6)
    ]
    losses = [step['loss'][0] for step in steps]
    assert np.mean(losses[3:]) < np.mean(losses[:3])
    assert steps[0]['num_samples_in_batch'] == (32.0, 1.0)
    variables = {v.name: v for v in tf.global_variables()}
    values = session.run(variables)
  moving = [n for n in values if 'moving_variance/var' in n]
  assert moving and all((values[n] != 1.0).any() for n in moving)

  with (
    pt.cluster(2, do_eval=True),
    tf.Graph().as_default(),
    pt.session(2, graph_options=_OPTIMISED_ONCE) as session,
  ):
    test = _params('Test')
    test.task.pipeline.num_micro_batches = 2
    model = test.Instantiate()
    model.ConstructFPropGraph()
    task = model.GetTask()
    given = {
      v.initializer.inputs[1]: values[v.name] for v in tf.global_variables()
    }
    session.run(tf.global_variables_initializer(), given)
    task.input.Initialize(session)
    task.input.Reset(session)
    samples, losses = 0.0, []
    for _ in range(3):
      metrics = session.run(task.eval_metrics)
      samples += np.prod(metrics['num_samples_in_batch'])
      losses.append(metrics['loss'][0])
      assert metrics['accuracy'][1] == metrics['num_samples_in_batch'][0]
    with pytest.raises(tf.errors.OutOfRangeError):
      session.run(task.eval_metrics)
  assert samples == 364.0
  assert np.isfinite(losses).all()
