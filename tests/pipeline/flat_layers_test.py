# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the flat list of layers."""

import lingvo.compat as tf
import pytest
import tiny_pipeline as tp
from lingvo.core import builder_layers

from lingvo_gpipe import pipelining_layer
from lingvo_gpipe.pipeline import flat_layers


def _sequential(name, sub, repeat=1):
  return builder_layers.SequentialLayer.Params().Set(
    name=name, sub=sub, repeat=repeat
  )


def _owner():
  return pipelining_layer.PipeliningLayer.Params().Set(name='net')


def _sub():
  inner = _sequential('inner', tp.linear('c'))
  blocks = _sequential('blocks', [*tp.linear('b'), inner], repeat=2)
  return [tp.linear('a'), blocks, [tp.linear('d', '')]]


_NAMES = [
  'a',
  'blocks/000/b',
  'blocks/000/inner/c',
  'blocks/001/b',
  'blocks/001/inner/c',
  'd',
  'layer_3',
]


def test_sequences_repeats_and_lists_are_flattened():
  layers = flat_layers.flatten(_sub(), _owner())
  assert [layer.name for layer in layers] == _NAMES


def test_layers_inherit_what_their_sequence_says():
  blocks = _sequential('blocks', tp.linear('a')).Set(fprop_dtype=tf.bfloat16)
  owner = _owner().Set(random_seed=5)
  [layer] = flat_layers.flatten([blocks], owner)
  assert layer.params.fprop_dtype == tf.bfloat16
  assert layer.params.random_seed == 5
  [container] = flat_layers.cell_params('c', [layer]).sub
  assert container.fprop_dtype == tf.bfloat16


def test_same_names_are_refused_by_name():
  with pytest.raises(
    ValueError, match=r'net\.sub has several layers named b\.'
  ):
    flat_layers.flatten(tp.linear('a', 'b', 'b'), _owner())


def test_no_layer_is_refused():
  with pytest.raises(ValueError, match=r'net\.sub has no layer'):
    flat_layers.flatten([[], _sequential('s', [])], _owner())


def test_saved_outputs_are_refused():
  blocks = _sequential('blocks', tp.linear('a')).Set(save_output=True)
  with pytest.raises(ValueError, match="'blocks' has save_output"):
    flat_layers.flatten([blocks], _owner())
