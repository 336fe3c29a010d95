# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Params that cannot be used: errors name the Param, the value, the remedy."""

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tiny_pipeline
from lingvo.core import builder_layers, py_utils
from tiny_pipeline import refused, two_layers

from lingvo_gpipe import pipelining_layer


def _cell_of(*subs):
  return pipelining_layer.FeatureExtractionLayer.Params().Set(
    name='d0', sub=list(subs)
  )


_LINEAR = tiny_pipeline.Linear.Params().Set(name='a')


def _instance():
  return _LINEAR.Instantiate()


def _cells(*names):
  cells = [tiny_pipeline.Linear.Params().Set(name=name) for name in names]
  return two_layers().Set(cell_tpl=cells)


def _one_cell(*subs):
  return tiny_pipeline.pipeline(subs, 1)


@pytest.mark.parametrize(
  ('name', 'value', 'message'),
  [
    ('schedule', 'zigzag', " is 'zigzag'.*'gpipe', '1f1b'"),
    ('schedule', '1f1b', " is '1f1b'.*needs loss_tpl.*schedule to 'gpipe'"),
    ('recompute', True, " is True.*'always', 'except_last', 'never'"),
    ('batch_dim', -1, ' is -1.*of 0 or more'),
    ('batch_dim', None, ' is None.*a whole number'),
    ('num_micro_batches', '4', " is '4'.*a whole number of 1 or more"),
    ('num_micro_batches', True, ' is True.*a whole'),
    ('num_micro_batches', 0, ' is 0.*1 or more'),
    ('micro_batch_size', 2.5, r' is 2\.5.*or None'),
    ('side_inputs', 'mask', r" is 'mask'.*list of names, as in \['mask'\]"),
    ('shared_inputs', [1], r' is \[1\].*list of names'),
    ('bprop_variable_filter', 3, ' is 3.*text'),
    ('bprop_variable_filter', '(a', r" is '\(a'"),
    ('bprop_variable_exclusion', '(a', r" is '\(a'"),
    ('cell_tpl', [], ' is empty'),
    ('cell_tpl', _LINEAR, ' is Params of Linear.*a list'),
    ('cell_tpl', 'abc', " is 'abc'.*a list of Params"),
    (
      'cell_tpl',
      [_cell_of(_LINEAR, tiny_pipeline.Linear)],
      r'\[0\]\.sub\[1\] is the class Linear.* Linear\.Params\(\)\.Set',
    ),
    (
      'cell_tpl',
      lambda: [_cell_of(_cell_of(_instance()))],
      r'\[0\]\.sub\[0\]\.sub\[0\] is a layer, an instance of Linear'
      r'.*Linear\.Params\(\)\.Set',
    ),
    (
      'cell_tpl',
      [_cell_of(_LINEAR).Set(variable_name_prefix=None)],
      r'\[0\]\.variable_name_prefix is None; it must be text',
    ),
    (
      'cell_tpl',
      [_LINEAR.Copy().Set(name=3)],
      r'\[0\]\.name is 3; it must be text',
    ),
    (
      'cell_tpl',
      [builder_layers.SequentialLayer.Params().Set(repeat='2')],
      r"\[0\]\.repeat is '2'; it must be a whole number",
    ),
    ('before_tpl', [3], r'\[0\] is 3.*MyLayer\.Params\(\)'),
    (
      'loss_tpl',
      tiny_pipeline.MeanSquare,
      r' is the class MeanSquare.*MeanSquare\.Params\(\)',
    ),
    ('loss_tpl', _instance, ' is a layer, an instance of Linear'),
    (
      'loss_tpl',
      _LINEAR,
      r' is Params of Linear, whose FProp takes \(self, theta, x\)'
      '.*outputs, targets',
    ),
  ],
)
def test_params_that_cannot_be_used(name, value, message):
  with pt.cluster(1), tf.Graph().as_default():
    if callable(value) and not isinstance(value, type):
      value = value()
    params = two_layers().Set(**{name: value})
    with refused(rf'net\.{name}{message}'):
      params.Instantiate()


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (
      lambda: _cell_of(tiny_pipeline.Linear),
      r'^d0\.sub\[0\] is the class Linear; it must be Params',
    ),
    (
      lambda: _cell_of(_LINEAR).Set(num_act_inputs='1'),
      r"^d0\.num_act_inputs is '1'; it must be a whole number",
    ),
    (
      lambda: _cell_of(_LINEAR).Set(act_fetch_layers=['a'], num_act_outputs=1),
      r"d0\.act_fetch_layers names 'a', .* a FetchLayer",
    ),
    (
      lambda: _cell_of(_LINEAR).Set(act_fetch_layers='a', num_act_outputs=1),
      r"d0\.act_fetch_layers is 'a'; it must be a list of names",
    ),
    (
      lambda: _cells('a', 'a'),
      "net: every layer of .* needs a name of its own.*'a', 'a'",
    ),
    (
      lambda: _cells(''),
      'net: every layer of before_tpl and cell_tpl needs a name',
    ),
    (lambda: _one_cell(_LINEAR, _LINEAR), r"d0\.sub has two layers named 'a'"),
    (
      lambda: _one_cell(tiny_pipeline.Linear.Params()),
      r'd0\.sub has a Linear without a name',
    ),
  ],
)
def test_cells_and_layers_that_cannot_be_used(make, message):
  with pt.cluster(1), tf.Graph().as_default(), refused(message):
    make().Instantiate()


@pytest.mark.parametrize('number', [0, 3, '2', 1.5])
def test_a_sequence_is_cut_into_one_cell_to_as_many_as_it_has_layers(number):
  subs = tiny_pipeline.linear('a', 'b')
  with refused(f'num_partitions is {number!r}, .* 2 layers', 'from 1 to 2'):
    pipelining_layer.PartitionSequentialLayers(subs, number)


def test_more_cells_than_tpu_cores(monkeypatch):
  monkeypatch.setattr(py_utils, 'use_tpu', lambda: True)
  with (
    pt.cluster(1, tpus=1),
    tf.Graph().as_default(),
    refused(
      r'net\.cell_tpl has 2 cells', 'has 1 TPU cores', '--worker_split_size'
    ),
  ):
    two_layers().Instantiate()
