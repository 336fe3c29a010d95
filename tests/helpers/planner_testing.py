# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses

from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.planner.workload import Workload


def workload(num_layers=8, **changes):
  """Each layer: forward 1, backward 2; 100 weights, 1000 of activations."""
  layers = tuple(
    LayerCost(
      f'l{i}',
      forward=1,
      backward=2,
      parameters=25,
      weight_bytes=100,
      optimizer_bytes=200,
      activation_bytes=1000,
      output_bytes=10,
    )
    for i in range(num_layers)
  )
  values = {
    'name': 'toy',
    'layers': layers,
    'input_bytes': 10,
    'num_micro_batches': 8,
    'micro_batch_size': 4,
    'schedule': '1f1b',
    'recompute': 'always',
  }
  return Workload(**{**values, **changes})


def uneven_workload(num_layers=16):
  work = workload(num_layers)
  layers = tuple(
    dataclasses.replace(
      layer,
      forward=2 + i % 3,
      backward=4 + i % 4,
      activation_bytes=300 + 150 * (i * 7 % 5),
      transient_bytes=100 * (i % 2),
    )
    for i, layer in enumerate(work.layers)
  )
  return dataclasses.replace(work, layers=layers)
