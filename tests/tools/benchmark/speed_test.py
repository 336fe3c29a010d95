# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The benchmark of a tiny model, one of whose variants cannot be run."""

import json

import pytest

from tools.benchmark import speed_command

# In the first cell is the embedding alone, which Lingvo's engine refuses.
_FLAGS = ['--case=tiny-transformer', '--cells=4', '--runs=2', '--rounds=2']
_VARIANTS = ['lingvo', 'ours-1f1b-never', 'naive', 'plain']


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  path = tmp_path_factory.mktemp('found')
  files = [f'--json={path / "json"}', f'--markdown={path / "md"}']
  variants = ','.join(_VARIANTS)
  flags = [*_FLAGS, f'--variants={variants}', '--steps=3', *files]
  assert speed_command.main(flags) == 1
  figures = json.loads((path / 'json').read_text())
  assert '--case=tiny-transformer' in figures['command']
  [case] = figures['cases']
  variants = {variant['name']: variant for variant in case['variants']}
  return variants, (path / 'md').read_text()


def test_all_steps_are_counted_but_the_warm_up(found):
  for name in _VARIANTS[1:]:
    own = found[0][name]
    assert len(own['step_seconds']) == 2 * 2 * 3
    is_pipeline = name != 'plain'
    assert len(own['one_core_seconds']) == 2 * 2 * is_pipeline
    for each in ('graph_seconds', 'first_step_seconds', 'peak_bytes'):
      assert len(own[each]) == 2
    # Of the last run: the first step, one of each kind, and two rounds.
    assert len(own['losses']) == 1 + (1 + is_pipeline) + 2 * (3 + is_pipeline)
    assert (
      len(own['device_bytes']) == own['num_cells'] == (4, 1)[name == 'plain']
    )
    assert all(0 < size < own['peak_bytes'][0] for size in own['device_bytes'])


def test_what_cannot_be_run_is_told_and_does_not_stop_the_others(found):
  variants, text = found
  assert 'the embedding' in variants['lingvo']['error']
  assert '- lingvo K=4 M=2 could not be run: ValueError: The first' in text
  assert '| lingvo' not in text
  for name in _VARIANTS[1:]:
    assert f'| {name} ' in text and f'\n- {name.partition("-")[0]}: ' in text
  assert 'losses of the same step agree to' in text
