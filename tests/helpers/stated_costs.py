# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Costs that are stated, not traced, for tests of the paper's tables."""

from lingvo_gpipe.cutting.cost_model import LayerCost
from tools.paper.model_costs import ModelCosts


def equal_layers(
  num_layers: int, *, examples: int = 1, output_bytes: int = 0
) -> ModelCosts:
  """Layers alike: 10 GFLOP forward, 20 backward, 1000 parameters each."""
  return ModelCosts(
    layers=tuple(
      LayerCost(
        name=f'layer_{i}',
        forward=10 * 10**9 * examples,
        backward=20 * 10**9 * examples,
        parameters=1000,
        weight_bytes=4000,
        optimizer_bytes=8000,
        activation_bytes=600 * examples,
        output_bytes=output_bytes * examples,
      )
      for i in range(num_layers)
    ),
    examples=examples,
    input_bytes=100 * examples,
  )
