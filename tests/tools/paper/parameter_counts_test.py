# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tools.paper import parameter_counts


def test_a_registered_transformer_has_what_its_formula_says():
  dim, hidden, vocab = 2048, 8192, 32000
  # Norms: scale and bias. The last norm is the softmax's, which has a bias.
  layer = 4 * dim * dim + 2 * dim * hidden + 4 * dim + 9 * dim
  ends = 2 * vocab * dim + vocab + 2 * dim
  counted = parameter_counts.count_registered('lm.paper.Transformer3')
  assert counted == pytest.approx(3 * layer + ends, rel=2e-4)


def test_counts_stand_beside_the_published_ones(monkeypatch, tmp_path, capsys):
  counts = {'a.Small': 82_000_000, 'a.Large': 5_247_000_000}
  monkeypatch.setattr(parameter_counts, 'count_registered', counts.get)
  published = (('Small', 'a.Small', 80e6), ('Large', 'a.Large', 5.3e9))
  monkeypatch.setattr(parameter_counts, 'PUBLISHED', published)
  figures = tmp_path / 'counts.json'
  assert parameter_counts.main(['--json', str(figures)]) == 0
  lines = capsys.readouterr().out.splitlines()
  cells = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]
  assert cells[2] == ['Small', '82,000,000', '80M', '+2.50%', 'a.Small']
  assert cells[3] == ['Large', '5,247,000,000', '5.3B', '-1.00%', 'a.Large']
  assert json.loads(figures.read_text())[0]['difference'] == pytest.approx(
    0.025
  )


def test_a_model_that_is_not_there_is_named(refused):
  assert 'lm.paper.Transformer13' in refused(
    parameter_counts.main, ['--models', 'resnet']
  )
