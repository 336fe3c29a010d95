# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import contextlib

import numpy as np
import pipeline_testing as pt
import pytest
import tensorflow.compat.v1 as tf
from lingvo import model_registry
from tensorflow.core.protobuf import rewriter_config_pb2

import model_params  # noqa: F401  (lets Lingvo find the models)

# Optimising the graph twice takes longer than these few steps.
_OPTIMISED_ONCE = tf.GraphOptions(
  rewrite_options=rewriter_config_pb2.RewriterConfig(
    meta_optimizer_iterations=rewriter_config_pb2.RewriterConfig.ONE
  )
)


def _digits(dataset):
  p = model_registry.GetParams('image.digits.AmoebaNetD', dataset).Copy()
  p.input.batch_size = 32
  p.task.train.learning_rate = 0.003
  p.task.train.lr_schedule.warmup_steps = 1
  return p


def _bytes(dataset):
  p = model_registry.GetParams('lm.pydoc.TransformerBytes', dataset).Copy()
  p.input.Set(batch_size=8, row_length=32, num_layouts=1)
  p.task.pipeline.input_shapes = 'int32[4,32]'
  return p


@contextlib.contextmanager
def _built(p):
  """The task, its weights and input ready to run, and the session."""
  p.task.pipeline.num_micro_batches = 2
  p.task.train.max_steps = 8
  with (
    pt.cluster(2, do_eval=not p.input.training),
    tf.Graph().as_default(),
    pt.session(2, graph_options=_OPTIMISED_ONCE) as session,
  ):
    tf.set_random_seed(1)
    model = p.Instantiate()
    if p.input.training:
      model.ConstructFPropBPropGraph()
    else:
      model.ConstructFPropGraph()
    task = model.GetTask()
    session.run(tf.global_variables_initializer())
    task.input.Initialize(session)
    yield task, session


@pytest.mark.parametrize('params', [_digits, _bytes])
def test_trains_and_evaluates_in_two_cells(params):
  with _built(params('Train')) as (task, session):
    assert len(task.pipeline.cells) == 2
    steps = [
      session.run([task.eval_metrics, task.train_op])[0] for _ in range(8)
    ]
    moving = [v for v in tf.global_variables() if 'moving_variance' in v.name]
    assert bool(moving) == (params is _digits)
    assert all((value != 1.0).any() for value in session.run(moving))
  losses = [step['loss'][0] for step in steps]
  assert np.mean(losses[4:]) < np.mean(losses[:4])
  size = params('Train').input.batch_size
  for step in steps:
    assert step['num_samples_in_batch'] == (size, 1.0)
    if 'bits_per_byte' in step:
      # A row of bytes stands for as many, but for marks.
      tokens = step['num_tokens_in_batch'][0]
      assert tokens - size <= step['bits_per_byte'][1] <= tokens <= size * 32

  with _built(params('Test')) as (task, session):
    metrics = session.run(task.eval_metrics)
  assert metrics['num_samples_in_batch'] == (size, 1.0)
  assert np.isfinite(metrics['loss'][0])
  if params is _bytes:
    assert 6.0 < metrics['bits_per_byte'][0] < 14.0
  else:
    assert metrics['accuracy'][1] == size
