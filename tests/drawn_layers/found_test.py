# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws that did not give the same bits once, as small as they could be made.

`tools/random_layers.py` prints such draws.
"""

import pytest
from drawn_layers import comparing
from drawn_layers.draws import Draw, Variant, layer

_DENSE = layer('dense')
_IMAGE = layer('reshape', form='image')
_NEVER = Variant(recompute='never')
_CUT_1, _CUT_2 = Variant(cuts=(1,)), Variant(cuts=(2,))
_ZERO_BUBBLE = Variant(cuts=(1,), schedule='zb_h1', recompute='never')

FOUND = {
  'forward_with_and_without_what_the_backward_reads': Draw(
    layers=(
      _DENSE,
      layer('chain', ops=('tanh', 'sin', 'sigmoid', 'square'), combine='sum'),
    ),
    variants=(Variant(), Variant(cuts=(1,), schedule='1f1b')),
  ),
  'a_layer_alone_and_behind_another': Draw(
    layers=(_DENSE, layer('chain', ops=('inverse',), combine='nest')),
    variants=(_NEVER, Variant(cuts=(1,), recompute='never')),
    time=2,
    width=4,
    batch=4,
    num_micro_batches=4,
    weights='some_zero',
  ),
  'gradient_of_the_input_of_a_cell_without_weights': Draw(
    layers=(layer('pieces'), _DENSE),
    variants=(Variant(), _CUT_1),
    input_gradient=True,
  ),
  'a_layer_of_several_outputs_before_a_cut': Draw(
    layers=tuple(map(layer, ('reduced', 'fork', 'transposed', 'join'))),
    variants=(Variant(), _CUT_2),
    time=2,
    width=4,
    batch=7,
    num_micro_batches=3,
    dtype='bfloat16',
    loss_inside=False,
    input_gradient=True,
  ),
  'sparse_gradients_of_a_layer_of_several_outputs': Draw(
    layers=tuple(map(layer, ('fork', 'turn', 'dense', 'join'))),
    variants=(Variant(), _CUT_2),
    batch=16,
    num_micro_batches=1,
  ),
  'padding_whose_result_is_kept_or_not': Draw(
    layers=(_IMAGE, layer('windows', op='padded')),
    variants=(_NEVER, Variant()),
    time=7,
    width=12,
  ),
  'bias_and_convolution_whose_gradients_are_outputs_of_one_op': Draw(
    layers=(_IMAGE, layer('windows', op='stacked'), _DENSE),
    variants=(_NEVER, _ZERO_BUBBLE),
    time=7,
    width=12,
  ),
  'bias_and_convolution_whose_gradients_are_packed_together': Draw(
    layers=(
      layer('reshape', form='sequence'),
      layer('transformer'),
      _IMAGE,
      layer('convolution', separable=False),
    ),
    variants=(_NEVER, _ZERO_BUBBLE),
  ),
}


@pytest.mark.parametrize('draw', FOUND.values(), ids=FOUND)
def test_every_variant_gives_the_same_bits(draw):
  assert not comparing.problem(draw)
