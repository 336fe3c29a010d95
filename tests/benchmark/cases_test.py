# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.benchmark import cases


def test_bound_is_what_the_simulator_finds_for_equal_cells():
  for case in cases.CASES:
    for name in ('gpipe', '1f1b'):
      schedule = schedules.make_schedule(
        name, range(case.num_cells), case.num_micro_batches
      )
      bubble = schedules.simulate(schedule).bubble
      assert case.efficiency_bound == pytest.approx(float(1 - bubble))


def test_variant_names_differ_and_find_their_variant():
  names = [variant.name for variant in cases.VARIANTS]
  assert len(set(names)) == len(names)
  assert cases.named_variants(names) == list(cases.VARIANTS)
  assert cases.named_cases(['long', 'tiny'])[1] == cases.TINY_CASE


def test_every_one_core_variant_has_its_counterpart():
  for variant in cases.VARIANTS:
    assert dataclasses.replace(variant, one_core=False) in cases.VARIANTS


def test_loss_is_inside_where_the_schedule_needs_it():
  assert not cases.Variant('ours').loss_inside
  assert cases.Variant('ours', '1f1b').loss_inside


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: cases.Case('x', 5, 8, 8, 2, 2), 'num_layers is 5'),
    (lambda: cases.Case('x', 4, 0, 8, 2, 2), 'dim is 0'),
    (lambda: cases.Variant('other'), "engine is 'other'"),
    (lambda: cases.Variant('lingvo', '1f1b'), "schedule 'gpipe'"),
    (lambda: cases.named_cases(['none']), "no case 'none'.*wide"),
    (lambda: cases.named_variants(['none']), "no variant 'none'.*ours-1f1b"),
  ],
)
def test_mistakes_are_named(make, message):
  with pytest.raises(ValueError, match=message):
    make()
