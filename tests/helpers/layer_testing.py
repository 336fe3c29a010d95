# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import contextlib

import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import cluster_factory, py_utils


@contextlib.contextmanager
def graph_session(do_eval=False, seed=17):
  cluster = cluster_factory.Current().params.Copy()
  cluster.do_eval = do_eval
  with tf.Graph().as_default(), cluster.Instantiate():
    tf.set_random_seed(seed)
    py_utils.GetOrCreateGlobalStepVar()
    with tf.Session() as session:
      yield session


@contextlib.contextmanager
def refused(message, do_eval=False):
  with graph_session(do_eval), pytest.raises(ValueError, match=message):
    yield


def make(cls, **params):
  return cls.Params().Set(**{'name': 'layer', **params}).Instantiate()


def run(session, fetches):
  session.run(tf.global_variables_initializer())
  return session.run(fetches)
