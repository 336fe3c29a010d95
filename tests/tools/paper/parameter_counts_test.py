# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tools.paper import parameter_counts
from tools.paper.parameter_counts import (
  PUBLISHED,
  Counted,
  PublishedModel,
)


def test_all_ten_models_of_the_table_and_the_announced_one_are_listed():
  assert len(PUBLISHED) == 11
  assert len({model.model for model in PUBLISHED}) == 11


def test_a_registered_transformer_has_what_its_formula_says():
  dim, hidden, vocab = 2048, 8192, 32000
  # Norms: scale and bias. The last norm is the softmax's, which has a bias.
  layer = 4 * dim * dim + 2 * dim * hidden + 4 * dim + 9 * dim
  ends = 2 * vocab * dim + vocab + 2 * dim
  counted = parameter_counts.count_registered('lm.paper.Transformer3')
  assert counted == pytest.approx(3 * layer + ends, rel=2e-4)


def test_counts_stand_beside_the_published_ones(tmp_path):
  models = [
    PublishedModel('Small', 'a.Small', 80e6),
    PublishedModel('Large', 'a.Large', 5.3e9),
  ]
  counted = parameter_counts.count_all(
    models, {'a.Small': 82_000_000, 'a.Large': 5_247_000_000}.get
  )
  lines = parameter_counts.as_text(counted).splitlines()
  cells = [[cell.strip() for cell in line.split('|')[1:-1]] for line in lines]
  assert cells[2] == ['Small', '82,000,000', '80M', '+2.50%', 'a.Small']
  assert cells[3] == ['Large', '5,247,000,000', '5.3B', '-1.00%', 'a.Large']
  (small, _) = json.loads(json.dumps(parameter_counts.as_json(counted)))
  assert small['parameters'] == 82_000_000
  assert small['published'] == 80e6
  assert small['difference'] == pytest.approx(0.025)


def test_the_difference_is_a_share_of_the_published_count():
  row = Counted(PublishedModel('x', 'y', 100), 90)
  assert row.difference == pytest.approx(-0.1)


def test_a_filter_that_fits_no_model_is_an_error(capsys):
  with pytest.raises(SystemExit):
    parameter_counts.main(['--models', 'resnet'])
  assert 'lm.paper.Transformer3' in capsys.readouterr().err
