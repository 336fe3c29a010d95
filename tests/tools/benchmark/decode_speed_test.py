# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import numpy as np
import pytest

from tools.benchmark import decode_command, decode_speed
from tools.benchmark.cases import Case


def test_ways_of_generating_agree():
  case = Case(
    *('', 'transformer', 1, 8, 3, 2, 2), example_size=2 + 5, num_ids=20
  )
  results = decode_speed.measure(case, prompt=2, runs=1)
  assert list(results) == ['cached, M = 1', 'cached, M = 2', 'whole passes']
  for seconds, ids in results.values():
    assert ids.shape == (3, 7)
    np.testing.assert_array_equal(ids, results['whole passes'][1])
    assert seconds > 0


@pytest.mark.parametrize('differ', [False, True])
def test_command_shows_and_writes(monkeypatch, capsys, tmp_path, differ):
  def measure(case, prompt, runs):
    assert (case.example_size, prompt) == (264, 8)
    assert (case.num_layers, case.num_cells, runs) == (2, 2, 4)
    ids = np.zeros([4, 264])
    return {'cached': (0.5, ids + differ), 'whole passes': (4.0, ids)}

  monkeypatch.setattr(decode_speed, 'measure', measure)
  files = [str(tmp_path / name) for name in ('found.json', 'found.md')]
  flags = ['--layers=2', '--runs=4', '--json', files[0], '--markdown', files[1]]
  assert decode_command.main(flags) == differ
  text = capsys.readouterr().out
  assert '2048 |           8.0 |' in text
  assert ('Other tokens than by whole passes: cached' in text) == differ
  with open(files[0]) as found, open(files[1]) as table:
    assert json.load(found)['results'][0]['tokens_per_second'] == 2048.0
    assert table.read().strip() in text
