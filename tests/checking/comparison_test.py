# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from lingvo_gpipe.checking import comparison, one_batch

_TOLERANCE = 1e-3


def _result(gradients, **metrics):
  gradients = {('loss', name[0], name): g for name, g in gradients.items()}
  return one_batch.Result(metrics, gradients, 2, 4, [], {})


_PLAIN = _result({'a/w': [3.0, 0.0], 'a/b': [4.0], 'b/w': [5.0]}, loss=2.0)


def test_a_gradient_that_is_lost_differs_by_all_of_it_and_is_named():
  other = _result({'a/w': [3.0, 0.5], 'a/b': [4.0], 'b/w': None}, loss=2.2)
  way = comparison.compare(_PLAIN, other)
  assert way.differences == pytest.approx(
    {'metric loss': 0.1, 'gradient of a': 0.1, 'gradient of b': 1.0}
  )
  assert way.lost == ['b/w']


def test_what_is_not_finite_differs_without_end():
  other = _result({'a/w': [math.nan, 0], 'a/b': [4], 'b/w': [5]}, loss=math.inf)
  way = comparison.compare(_PLAIN, other)
  assert way.differences['gradient of a'] == math.inf
  assert way.differences['metric loss'] == math.inf
  assert way.differences['gradient of b'] == 0


def test_rounding_of_a_gradient_that_is_zero_is_no_difference():
  plain = _result({'a/w': [1.0, 0.0], 'a/b': None, 'b/w': [1e-9]})
  other = _result({'a/w': [1.0, 0.0], 'a/b': None, 'b/w': [-1e-9]})
  way = comparison.compare(plain, other)
  assert 0 < way.differences['gradient of b'] < _TOLERANCE


def test_several_losses_are_told_apart():
  plain = _PLAIN._replace(
    gradients={(loss, 'a', 'a/w'): np.ones(2) for loss in 'xy'}
  )
  names = comparison.compare(plain, plain).differences
  assert 'gradient of a (x)' in names
  assert 'gradient of a (y)' in names


def _faults(whole, values, weights):
  parts = [{'m': pair} for pair in zip(values, weights, strict=True)]
  loss = one_batch.Loss({'m': (whole, 1.0)}, parts, False)
  return list(comparison.explain({'net': loss}, _TOLERANCE))


@pytest.mark.parametrize(
  ('whole', 'values', 'weights', 'reason'),
  [
    (7.0, [2.0, 5.0], [3, 1], 'is a sum'),
    (2.9, [2.0, 5.0], [1, 1], 'its weight is 1 for every micro-batch'),
    # A maximum, and almost a sum.
    (5.0, [2.0, 5.0], [3, 1], 'not the mean of its values'),
    (7.0005, [2.0, 5.0], [3, 1], 'not the mean of its values'),
    (2.0, [2.0, math.nan], [1, 1], 'not finite for a micro-batch'),
    # Means.
    (2.75, [2.0, 5.0], [3, 1], ''),
    # One alone, none that counts, one that does not.
    (2.0, [2.0], [1], ''),
    (0.0, [0.0, 0.0], [0, 0], ''),
    (2.0, [2.0, math.nan], [1, 0], ''),
  ],
)
def test_a_metric_that_does_not_fit_is_named(whole, values, weights, reason):
  faults = _faults(whole, values, weights)
  assert len(faults) == bool(reason)
  assert all(reason in fault for fault in faults)
