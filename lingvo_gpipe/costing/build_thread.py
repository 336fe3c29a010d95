# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Builds layers where no other layer is being built."""

import concurrent.futures
from collections.abc import Callable
from typing import TypeVar

import tensorflow.compat.v1 as tf
from lingvo.core import cluster_factory

_Result = TypeVar('_Result')


def in_build_thread(function: Callable[[], _Result]) -> _Result:
  """Calls a function in a thread of its own, under the caller's cluster.

  Within another layer's __init__, Lingvo would take the layers that are built
  for that layer's children. It keeps book of them, and of clusters, by thread.

  In eager mode a thread without a graph would start TensorFlow's devices, with
  more threads than training on CPU devices wants.
  """
  cluster = cluster_factory.Current()

  def run() -> _Result:
    with tf.Graph().as_default(), cluster:
      return function()

  with concurrent.futures.ThreadPoolExecutor(max_workers=1) as thread:
    return thread.submit(run).result()
