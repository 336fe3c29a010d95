# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.training import listeners, report


@pytest.mark.parametrize(
  ('metrics', 'accuracy'),
  [
    ({}, 'loss 0.25'),
    ({'accuracy': 0.9725}, '97.25%'),
    (
      {'accuracy': 0.5125, 'bits_per_byte': 1.98765},
      '1.988 bits a byte, 51.25% of the tokens',
    ),
  ],
)
def test_models_are_told_by_what_they_measure(metrics, accuracy):
  evaluation = listeners.Evaluation(300, {'loss': 0.25, **metrics}, 7, 'ckpt')
  assert report.accuracy(evaluation) == f'{accuracy} of 7 held-out examples'
