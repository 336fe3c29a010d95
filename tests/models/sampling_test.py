# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of choosing tokens."""

import lingvo.compat as tf
import numpy as np
import pytest

from lingvo_gpipe.models import sampling

# Unsorted; together 1.
_PROBABILITIES = np.float32([0.1, 0.4, 0.05, 0.25, 0.2])


def _frequencies(how, probabilities=_PROBABILITIES, count=20000):
  """How often each token is chosen, at evenly spread random numbers."""
  with tf.Graph().as_default(), tf.Session() as session:
    uniform = (np.arange(count, dtype=np.float32) + 0.5) / count
    logits = np.tile(np.log(probabilities) + 3.0, [count, 1])
    chosen = sampling.choose(tf.constant(logits), tf.constant(uniform), how)
    assert chosen.dtype == tf.int32
    chosen = session.run(chosen)
  return np.bincount(chosen, minlength=len(probabilities)) / count


def _normalised(weights):
  weights = np.array(weights, np.float64)
  return weights / weights.sum()


@pytest.mark.parametrize(
  ('how', 'weights'),
  [
    ({}, _PROBABILITIES),
    ({'temperature': 0.5}, _PROBABILITIES**2),
    ({'temperature': 2.0}, _PROBABILITIES**0.5),
    ({'temperature': 0.0}, [0, 1, 0, 0, 0]),
    ({'top_k': 1}, [0, 1, 0, 0, 0]),
    ({'top_k': 3}, [0, 0.4, 0, 0.25, 0.2]),
    ({'top_k': 9}, _PROBABILITIES),
    ({'top_p': 0.39}, [0, 1, 0, 0, 0]),
    ({'top_p': 0.41}, [0, 0.4, 0, 0.25, 0]),
    ({'top_p': 0.9}, [0.1, 0.4, 0, 0.25, 0.2]),
    # Of the three most probable, 0.47, 0.29 and 0.24, two make up 0.7.
    ({'top_k': 3, 'top_p': 0.7}, [0, 0.4, 0, 0.25, 0]),
  ],
)
def test_tokens_are_as_frequent_as_they_should_be(how, weights):
  got = _frequencies(sampling.Sampling(**how))
  np.testing.assert_allclose(got, _normalised(weights), atol=2e-4)


def test_tokens_that_cannot_be_are_never_chosen():
  """Whatever the random number, its largest value included."""
  logits = np.full([2, 50], -np.inf, np.float32)
  logits[:, 20] = 0.0
  uniform = np.float32([0.0, np.nextafter(np.float32(1), np.float32(0))])
  with tf.Graph().as_default(), tf.Session() as session:
    chosen = sampling.choose(
      tf.constant(logits), tf.constant(uniform), sampling.Sampling()
    )
    assert session.run(chosen).tolist() == [20, 20]


@pytest.mark.parametrize(
  ('how', 'message'),
  [
    ({'temperature': -1.0}, 'temperature must be 0 .* got -1.0'),
    ({'temperature': float('nan')}, 'temperature must be 0 .* got nan'),
    ({'top_k': -1}, 'top_k must be 0 .* got -1'),
    ({'top_p': 0.0}, r'top_p must lie in \(0, 1\], got 0.0'),
    ({'top_p': 1.5}, r'top_p must lie in \(0, 1\], got 1.5'),
  ],
)
def test_refuses_what_cannot_be(how, message):
  with pytest.raises(ValueError, match=message):
    sampling.Sampling(**how)
