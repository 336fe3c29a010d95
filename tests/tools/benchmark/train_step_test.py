# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from tools.benchmark import cases, train_step

_MLP = cases.TINY_CASES[0]
_LANGUAGE_MODEL = dataclasses.replace(cases.TINY_CASES[2], num_layers=1)


def _losses(case, name, num_steps=3):
  [variant] = cases.variants(case, [name])
  splits = [2] if variant.num_cells > 1 else []
  step = train_step.TrainStep(variant, splits)
  return [step.run() for _ in range(num_steps)]


def test_all_variants_train_the_same_model():
  expected = _losses(_MLP, 'plain')
  assert expected[-1] < expected[0]
  for name in ('lingvo', 'ours-gpipe-always', 'ours-1f1b-never'):
    assert _losses(_MLP, name) == pytest.approx(expected, rel=1e-6), name


def test_engines_train_the_same_language_model():
  # Lingvo's with the embedding before its pipeline.
  expected = _losses(_LANGUAGE_MODEL, 'lingvo', 2)
  assert expected[-1] < expected[0]
  found = _losses(_LANGUAGE_MODEL, 'ours-1f1b-always', 2)
  assert found == pytest.approx(expected, rel=1e-6)
