# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import input_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import cluster_factory, py_utils

from lingvo_gpipe.inputs import resident_input

_NUM_EXAMPLES = 10


class _Squares(resident_input.ResidentInput):
  num_examples = _NUM_EXAMPLES

  def __init__(self, params):
    super().__init__(params)
    self.CheckBatchSize()

  def LoadData(self):
    return py_utils.NestedMap(squares=tf.range(self.num_examples) ** 2)

  def MakeBatch(self, data, index, present, number):
    seed = tf.stack([tf.constant(self.params.random_seed, tf.int64), number])
    random = tf.random.stateless_uniform([index.shape[0]], seed)
    return py_utils.NestedMap(
      square=tf.gather(data.squares, index),
      weight=tf.cast(present, tf.float32),
      random=random,
    )


def _train(steps, **params):
  p = _Squares.TrainParams().Set(batch_size=4, **params)
  return input_testing.batches(p, steps)


def test_a_batch_depends_on_seed_and_step_alone():
  first = _train([0, 1, 2, 100])
  # A run that starts again at step 100 sees what it would have seen.
  assert all(map(input_testing.same, first, _train([0, 1, 2, 100])))
  assert input_testing.same(first[3], _train([100])[0])
  assert not input_testing.same(first[0], first[1])
  assert not input_testing.same(first[0], _train([0], random_seed=1)[0])


def test_an_epoch_shows_every_example_once_and_each_in_its_order():
  batches = _train(range(10))
  squares = np.concatenate([b.square for b in batches]).reshape([4, -1])
  assert (np.sort(squares) == np.arange(_NUM_EXAMPLES) ** 2).all()
  assert len({tuple(epoch) for epoch in squares}) == 4


def test_evaluation_shows_each_example_once_in_order():
  params = _Squares.TestParams().Set(batch_size=4)
  batches = input_testing.batches(params)
  weight = np.concatenate([b.weight for b in batches])
  assert weight.tolist() == [1.0] * _NUM_EXAMPLES + [0.0] * 2
  squares = np.concatenate([b.square for b in batches])[:_NUM_EXAMPLES]
  assert (squares == np.arange(_NUM_EXAMPLES) ** 2).all()
  with tf.Graph().as_default(), tf.Session() as session:
    generator = params.Instantiate()
    batch = generator.GetPreprocessedInputBatch()
    generator.Initialize(session)
    first, second = session.run(batch), session.run(batch)
    generator.Reset(session)
    assert input_testing.same(session.run(batch), first)
    assert not input_testing.same(first, second)


def test_the_dataset_gives_the_batches_of_the_steps():
  """What a TPU's infeed reads is what other devices compute."""
  params = _Squares.TrainParams().Set(batch_size=4)
  got = input_testing.from_dataset(params, 3)
  assert all(map(input_testing.same, got, _train(range(3))))


def test_shapes_are_static_and_the_batch_grows_with_the_splits():
  cluster = cluster_factory.Current().params.Copy()
  cluster.Set(job='trainer_client', mode='sync')
  cluster.worker.replicas = 2
  with tf.Graph().as_default(), cluster.Instantiate():
    py_utils.GetOrCreateGlobalStepVar()
    for params in (_Squares.TrainParams(), _Squares.TestParams()):
      generator = params.Set(batch_size=4).Instantiate()
      batch = generator.GetPreprocessedInputBatch()
      assert {tuple(x.shape) for x in batch.Flatten()} == {(8,)}


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    ({'batch_size': 0}, 'Train: batch_size must be positive, got 0'),
    ({'use_per_host_infeed': True}, 'use_per_host_infeed must be False'),
    ({'batch_size': 11}, "batch_size=11 asks for 11 .* 'train' has 10"),
    ({'split': 'valid'}, "split must be 'train' or 'test', got 'valid'"),
  ],
)
def test_impossible_params_are_refused(params, message):
  with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
    _Squares.TrainParams().Set(**params).Instantiate()
