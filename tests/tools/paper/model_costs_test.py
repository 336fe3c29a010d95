# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.cutting.cost_model import LayerCost
from tools.paper.model_costs import ModelCosts

_LAYER = LayerCost(
  'a',
  forward=10,
  backward=21,
  parameters=7,
  weight_bytes=28,
  optimizer_bytes=56,
  activation_bytes=101,
  output_bytes=40,
)
_COSTS = ModelCosts((_LAYER,), examples=4, input_bytes=13)


def test_times_and_activations_are_in_proportion_to_the_examples():
  (layer,) = _COSTS.with_examples(6).layers
  assert layer.forward == 15
  assert layer.backward == pytest.approx(31.5)
  # Bytes are whole, and never fewer than needed.
  assert layer.activation_bytes == 152
  assert layer.output_bytes == 60
  assert _COSTS.with_examples(6).input_bytes == 20
  assert layer.state_bytes == _LAYER.state_bytes


def test_a_micro_batch_of_nothing_is_an_error():
  with pytest.raises(ValueError, match='examples is 0'):
    _COSTS.with_examples(0)
