# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs layers in a graph of their own, for tests."""

import contextlib

import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import cluster_factory, py_utils


@contextlib.contextmanager
def graph_session(do_eval=False, seed=17):
  """A new graph and a session on it; yields the session."""
  cluster = cluster_factory.Current().params.Copy()
  cluster.do_eval = do_eval
  with tf.Graph().as_default(), cluster.Instantiate():
    tf.set_random_seed(seed)
    py_utils.GetOrCreateGlobalStepVar()
    with tf.Session() as session:
      yield session


@contextlib.contextmanager
def refused(message, do_eval=False):
  """A new graph, in which a ValueError with a message must be raised."""
  with graph_session(do_eval), pytest.raises(ValueError, match=message):
    yield


def make(cls, **params):
  """A layer of these Params."""
  return cls.Params().Set(**{'name': 'layer', **params}).Instantiate()


def run(session, fetches):
  """Initialises all variables and runs `fetches`."""
  session.run(tf.global_variables_initializer())
  return session.run(fetches)
