# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import tensorflow.compat.v1 as tf


@pytest.fixture(autouse=True)
def graph():
  """A graph of its own for each test."""
  with tf.Graph().as_default() as graph:
    tf.set_random_seed(1)
    yield graph
