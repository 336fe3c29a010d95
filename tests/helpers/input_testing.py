# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils


def batches(params, steps=None):
  """Returns batches at the given global steps, or all to the end."""
  with tf.Graph().as_default(), tf.Session() as session:
    step = tf.placeholder(tf.int64, [])
    with py_utils.GlobalStepContext(step):
      generator = params.Instantiate()
      batch = generator.GetPreprocessedInputBatch()
    generator.Initialize(session)
    if steps is not None:
      return [session.run(batch, {step: i}) for i in steps]
    result = []
    generator.Reset(session)
    while True:
      try:
        result.append(session.run(batch))
      except tf.errors.OutOfRangeError:
        return result


def from_dataset(params, num_batches):
  with tf.Graph().as_default(), tf.Session() as session:
    dataset = params.Instantiate().GetDataset()
    iterator = tf.data.make_initializable_iterator(dataset)
    session.run(iterator.initializer)
    batch = iterator.get_next()
    return [session.run(batch) for _ in range(num_batches)]


def same(a, b):
  return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)
