# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The smallest difference is found, and nothing else."""

import numpy as np
from drawn_layers import comparing, running
from drawn_layers.draws import Draw, Variant, layer

_DROPOUT, _DENSE = layer('dropout', keep_prob=0.5), layer('dense')


def _problem(monkeypatch, first, second, only_layer=_DROPOUT):
  """What is said of a draw whose variants, or plain layers, give these."""

  def run(unused_draw, variant, *, plain=False):
    return {'loss': second if variant.cuts or plain else first}

  monkeypatch.setattr(running, 'run', run)
  variants = (Variant(), Variant(cuts=(1,)))
  if only_layer is _DENSE:
    variants = variants[:1]
  return comparing.problem(Draw(layers=(only_layer,), variants=variants))


def test_values_that_are_not_the_same_bits_differ(monkeypatch):
  ones = np.ones(2, np.float32)
  assert not _problem(monkeypatch, ones * np.nan, ones * np.nan)
  assert not _problem(monkeypatch, None, None)
  for first, second in (
    (np.float32(1), np.nextafter(np.float32(1), np.float32(2))),
    (np.float32(0), np.float32(-0.0)),
    (ones, ones[None]),
    (np.float32(1), np.float64(1)),
    (np.float32(1), np.float32('nan')),
    (np.float32(1), None),
  ):
    problem = _problem(monkeypatch, first, second)
    assert 'Variant(cuts=(1,)' in problem and 'loss: ' in problem


def test_the_plain_model_may_differ_by_rounding_alone(monkeypatch):
  ones = np.ones(3, np.float32)
  assert not _problem(monkeypatch, ones, ones * 1.00001, _DENSE)
  problem = _problem(monkeypatch, ones, ones * 1.01, _DENSE)
  assert 'without a pipeline' in problem
