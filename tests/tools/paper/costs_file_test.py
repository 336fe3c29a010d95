# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
from stated_costs import equal_layers

from tools.paper.costs_file import CostsFile


def test_what_was_added_is_there_in_the_next_run(tmp_path):
  path = tmp_path / 'costs.json'
  first = CostsFile(str(path))
  assert first.get('a.Model', '') is None
  costs, others = equal_layers(3), equal_layers(2, examples=4)
  first.add('a.Model', '', costs)
  first.add('a.Model', 'bfloat16', others)
  second = CostsFile(str(path))
  assert second.get('a.Model', '') == costs
  assert second.get('a.Model', 'bfloat16') == others
  assert second.get('a.Model', 'float32') is None
  assert [found.name for found in tmp_path.iterdir()] == ['costs.json']


@pytest.mark.parametrize('text', ['{', '[1]', '{"a": {}}', '{"a": 1}'])
def test_a_file_of_something_else_is_an_error_that_names_it(tmp_path, text):
  path = tmp_path / 'costs.json'
  path.write_text(text, encoding='utf-8')
  with pytest.raises(ValueError, match=r'costs\.json is not a file of costs'):
    CostsFile(str(path))
