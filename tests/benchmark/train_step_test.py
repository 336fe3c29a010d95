# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.benchmark import cases, train_step

_CASE = cases.TINY_CASE


def _losses(variant, num_steps=4):
  step = train_step.TrainStep(_CASE, variant)
  return [step.run() for _ in range(num_steps)]


def test_both_engines_and_all_variants_train_the_same_model():
  expected = _losses(cases.BASELINE)
  assert expected[-1] < expected[0]
  for variant in (
    cases.Variant('ours'),
    cases.Variant('ours', '1f1b'),
    cases.Variant('ours', '1f1b', 'never'),
  ):
    assert _losses(variant) == pytest.approx(expected, rel=1e-6), variant


def test_ours_computes_no_gradient_of_the_data():
  step = train_step.TrainStep(_CASE, cases.Variant('ours'))
  graph = step._session.graph
  first = [op for op in graph.get_operations() if 'cell0_B' in op.name]
  calls = [op for op in first if op.type.endswith('PartitionedCall')]
  assert len(calls) == _CASE.num_micro_batches
  x = [_CASE.batch // _CASE.num_micro_batches, _CASE.dim]
  for call in calls:
    assert x not in [output.shape.as_list() for output in call.outputs]
