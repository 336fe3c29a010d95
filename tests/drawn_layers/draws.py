# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What one random test is made of, as plain data whose repr is Python.

A `Draw` that failed can be copied from a report into a test.
"""

import dataclasses
from typing import Any

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import registry

# Which examples have loss weight 0.
WEIGHTS = ('random', 'some_zero', 'first_zero', 'all_zero')
DTYPES = ('float32', 'bfloat16', 'float16')


@dataclasses.dataclass(frozen=True)
class Layer:
  """A layer of the list, or a container of layers; see `layer`."""

  kind: str  # In `catalogue.KINDS`.
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  sub: tuple['Layer', ...] = ()


def layer(kind: str, *sub: Layer, **options: Any) -> Layer:
  return Layer(kind, options, sub)


@dataclasses.dataclass(frozen=True)
class Variant:
  """A way to run the layers that must not change a bit of the results."""

  cuts: tuple[int, ...] = ()  # The first layer of each cell but the first.
  schedule: str = 'gpipe'
  recompute: str | tuple[int, ...] = 'always'  # Or the layers that are kept.
  num_devices: int = 0  # 0 for one a cell.
  optimised: bool = True  # Whether the session rewrites graphs.

  @property
  def num_cells(self) -> int:
    return len(self.cuts) + 1

  @property
  def is_possible(self) -> bool:
    """Whether the schedule can have the cells on the devices."""
    devices = schedules.place(
      self.schedule, self.num_cells, self.num_devices or self.num_cells
    )
    return registry.fits(self.schedule, devices)


@dataclasses.dataclass(frozen=True)
class Draw:
  """Layers that fit together, data, and the variants to compare."""

  layers: tuple[Layer, ...]
  variants: tuple[Variant, ...]
  time: int = 1  # Rows in an example.
  width: int = 8  # Numbers in a row; even.
  batch: int = 8
  num_micro_batches: int = 2
  dtype: str = 'float32'  # Of the activations; weights are float32.
  weights: str = 'random'
  loss_inside: bool = True
  input_gradient: bool = False
