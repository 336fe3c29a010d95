# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws that did not give the same bits once, as small as they could be made.

`tools/random_layers.py` prints such draws.
"""

import pytest
from drawn_layers import comparing
from drawn_layers.draws import Draw, Variant, layer

_DENSE = layer('dense')

FOUND = [
  pytest.param(
    Draw(
      layers=(
        _DENSE,
        layer('chain', ops=('tanh', 'sin', 'sigmoid', 'square'), combine='sum'),
      ),
      variants=(Variant(), Variant(cuts=(1,), schedule='1f1b')),
    ),
    id='forward_with_and_without_what_the_backward_reads',
  ),
  pytest.param(
    Draw(
      layers=(_DENSE, layer('chain', ops=('inverse',), combine='nest')),
      variants=(
        Variant(recompute='never'),
        Variant(cuts=(1,), recompute='never'),
      ),
      time=2,
      width=4,
      batch=4,
      num_micro_batches=4,
      weights='some_zero',
    ),
    id='a_layer_alone_and_behind_another',
  ),
  pytest.param(
    Draw(
      layers=(layer('pieces'), _DENSE),
      variants=(Variant(), Variant(cuts=(1,))),
      input_gradient=True,
    ),
    id='gradient_of_the_input_of_a_cell_without_weights',
  ),
  pytest.param(
    Draw(
      layers=(
        layer('reduced'),
        layer('fork'),
        layer('transposed'),
        layer('join'),
      ),
      variants=(Variant(), Variant(cuts=(2,))),
      time=2,
      width=4,
      batch=7,
      num_micro_batches=3,
      dtype='bfloat16',
      loss_inside=False,
      input_gradient=True,
    ),
    id='a_layer_of_several_outputs_before_a_cut',
  ),
  pytest.param(
    Draw(
      layers=(layer('fork'), layer('turn'), _DENSE, layer('join')),
      variants=(Variant(), Variant(cuts=(2,))),
      batch=16,
      num_micro_batches=1,
    ),
    id='sparse_gradients_of_a_layer_of_several_outputs',
  ),
  pytest.param(
    Draw(
      layers=(layer('reshape', form='image'), layer('windows', op='padded')),
      variants=(Variant(recompute='never'), Variant()),
      time=7,
      width=12,
    ),
    id='padding_whose_result_is_kept_or_not',
  ),
  pytest.param(
    Draw(
      layers=(
        layer('reshape', form='image'),
        layer('windows', op='stacked'),
        _DENSE,
      ),
      variants=(
        Variant(recompute='never'),
        Variant(cuts=(1,), schedule='zb_h1', recompute='never'),
      ),
      time=7,
      width=12,
    ),
    id='bias_and_convolution_whose_gradients_are_outputs_of_one_op',
  ),
  pytest.param(
    Draw(
      layers=(
        layer('reshape', form='sequence'),
        layer('transformer'),
        layer('reshape', form='image'),
        layer('convolution', separable=False, batch_norm=False),
      ),
      variants=(
        Variant(recompute='never'),
        Variant(cuts=(1,), schedule='zb_h1', recompute='never'),
      ),
    ),
    id='bias_and_convolution_whose_gradients_are_packed_together',
  ),
]


@pytest.mark.parametrize('draw', FOUND)
def test_every_variant_gives_the_same_bits(draw):
  assert not comparing.problem(draw)
