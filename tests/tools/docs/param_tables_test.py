# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from lingvo_gpipe import named_layers, sequential_layer
from lingvo_gpipe.inputs import idx_images
from lingvo_gpipe.models import transformer
from tools.docs import param_tables


def _table(module, name):
  [table] = [t for t in param_tables.tables(module) if t.name == name]
  return table


def test_a_class_has_the_params_that_it_defines():
  table = _table(sequential_layer, 'GPipeSequentialLayer')
  assert table.parent == 'PipeliningLayer'
  params = {param.name: param for param in table.params}
  assert params['balance'].default == "'flops'"
  assert params['num_partitions'].text.startswith('K, the number of cells.')
  assert 'num_micro_batches' not in params  # The parent's.


def test_a_class_of_lingvo_is_named_in_full():
  table = _table(named_layers, 'NamedValueLayer')
  assert table.parent == 'lingvo.core.base_layer.BaseLayer'


def test_a_default_that_is_changed_is_there_without_a_text():
  table = _table(idx_images, 'IdxImagesInput')
  [size] = [param for param in table.params if param.name == 'batch_size']
  assert (size.default, size.text) == ('128', '')


def test_a_function_that_returns_params_counts():
  table = _table(transformer, 'TransformerParams')
  assert table.parent == ''
  assert 'num_heads' in [param.name for param in table.params]
