# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest

from lingvo_gpipe.cutting.cost_model import LayerCost
from tools.benchmark.cases import Case
from tools.paper import least_memory


def _layer(name, parameters, activations=100, output=10):
  return LayerCost(
    name,
    forward=1,
    backward=2,
    parameters=parameters,
    weight_bytes=4 * parameters,
    optimizer_bytes=8 * parameters,
    activation_bytes=activations,
    output_bytes=output,
  )


def _reference(family, num_layers):
  case = Case('', family, 9, 64, 16, 1, 4, 32)
  layers = tuple(_layer(str(i), 1000 + i) for i in range(num_layers))
  return least_memory.Reference(case, layers, 8)


def _parameters(reference, case):
  layers = least_memory.guess_cut(reference, case).layers
  return sum(layer.parameters for layer in layers)


@pytest.mark.parametrize('length', [3, 6, 9, 12, 36])
def test_amoebanets_of_any_length_have_their_layers(length):
  reference = _reference('amoebanet', 16)
  case = dataclasses.replace(reference.case, num_layers=length)
  # Stem, four reductions and classifier stay.
  runs = ((3, 4, 5), (7, 8, 9), (11, 12, 13))
  expected = sum(1000 + i for i in (0, 1, 2, 6, 10, 14))
  for run in runs:
    for i in range(length // 3):
      expected += 1000 + run[min(i, 2)]
  assert _parameters(reference, case) == expected


def test_a_guess_has_weights_gradients_and_activations():
  reference = _reference('transformer', 3)
  case = dataclasses.replace(reference.case, num_layers=1)
  # The reference's micro-batch, its activations and all its inputs.
  (need,) = least_memory.guess_cut(reference, case).device_memory
  assert need == 20 * (1000 + 1001 + 1002) + 3 * 100 + 8
  whole = dataclasses.replace(case, num_micro_batches=1, recompute='never')
  # One gradient; four times the reference's micro-batch, and its input.
  (need,) = least_memory.guess_cut(reference, whole).device_memory
  assert need == 16 * (1000 + 1001 + 1002) + 4 * 3 * 100 + 4 * 8
