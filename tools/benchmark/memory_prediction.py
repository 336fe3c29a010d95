# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How much memory a cell's process should need, from the simulated schedule.

For the model of `bottleneck`, under recomputation. At its worst moment, in
the backward task of a micro-batch while the next input has come, the process of
cell k holds

```
  weights, the sums of their gradients so far, and this micro-batch's gradients,
    to which these are added in place
+ inputs at hand, of each the boundary's bytes
+ this micro-batch's activations: inner ones and their gradients, the gradient
    of the output, the gradient of the input
+ what it has sent and the neighbour has not received yet: one output (unless it
    is the last cell), one input gradient (unless it is the first)
```

Inputs at hand: the stash, and what has come for tasks that have not started. A
cell sends as soon as it has something, and cell k - 1 stashes a micro-batch
from before it sends it until after cell k is through with it. So cell k never
has more inputs at hand than the larger of both stashes: M under fill-drain,
K - k + 1 under 1F1B, one more than it stashes. The first cell has the whole
mini-batch's input from the start.
"""

import dataclasses

from lingvo_gpipe import memory_model, schedules
from lingvo_gpipe.cost_model import LayerCost

_FLOAT_BYTES = 4


@dataclasses.dataclass(frozen=True)
class MemoryCase:
  """A model of K cells of one bottleneck layer each, and how to run it.

  Attributes:
    schedule: One of lingvo_gpipe.schedules.SCHEDULE_NAMES.
    num_micro_batches: M.
    batch: Examples in a mini-batch.
    num_cells: K.
    input_dim: The width of the model's input.
    dim: The width of every boundary.
    hidden_dim: The width inside a cell.
  """

  schedule: str
  num_micro_batches: int
  batch: int = 32768
  num_cells: int = 4
  input_dim: int = 128
  dim: int = 1024
  hidden_dim: int = 256

  def __post_init__(self) -> None:
    schedules.check_name(self.schedule)
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name != 'schedule' and value < 1:
        raise ValueError(f'{field.name} is {value}; it must be 1 or more.')
    if self.batch % self.num_micro_batches:
      raise ValueError(
        f'batch is {self.batch}, which num_micro_batches, '
        f'{self.num_micro_batches}, does not divide.'
      )

  @property
  def boundary_bytes(self) -> int:
    """Bytes of what crosses a boundary for one micro-batch."""
    return self.batch // self.num_micro_batches * self.dim * _FLOAT_BYTES

  @property
  def inner_bytes(self) -> int:
    """Bytes of a cell's inner activations for one micro-batch."""
    return self.batch // self.num_micro_batches * self.hidden_dim * _FLOAT_BYTES

  def weight_bytes(self, cell: int) -> int:
    width = self.dim if cell else self.input_dim
    return (width + self.dim) * self.hidden_dim * _FLOAT_BYTES

  @property
  def input_bytes(self) -> int:
    """Bytes of the mini-batch's input."""
    return self.batch * self.input_dim * _FLOAT_BYTES


@dataclasses.dataclass(frozen=True)
class Prediction:
  """What a cell's process needs at its peak, in bytes.

  Attributes:
    peak_stash: The most micro-batches the cell stashes, by the simulator.
    at_hand: The most whose input it has.
    state: Weights and their gradients, as `memory_model` has them.
    inputs: The inputs at hand.
    activations: Of one micro-batch, with their gradients.
    in_transit: What it has sent and still keeps.
  """

  peak_stash: int
  at_hand: int
  state: int
  inputs: int
  activations: int
  in_transit: int

  @property
  def total(self) -> int:
    return self.state + self.inputs + self.activations + self.in_transit


def _state_bytes(case: MemoryCase, k: int) -> int:
  """A cell's weights and gradients while a backward runs; no slots."""
  layer = LayerCost(f'cell {k}', weight_bytes=case.weight_bytes(k))
  need = memory_model.CellMemory(
    [layer], [1], 'always', num_micro_batches=case.num_micro_batches
  ).of_cell(0, 0, 1)
  return need.state + need.new_gradients


def predict(case: MemoryCase) -> list[Prediction]:
  """What each cell's process needs, by ascending cell."""
  last = case.num_cells - 1
  schedule = schedules.make_schedule(
    case.schedule, range(case.num_cells), case.num_micro_batches
  )
  stash = schedules.simulate(schedule).peak_stash
  boundary = case.boundary_bytes
  predictions = []
  for k in range(case.num_cells):
    at_hand = max(stash[k], stash[k - 1]) if k else case.num_micro_batches
    neighbours = int(k > 0) + int(k < last)
    predictions.append(
      Prediction(
        peak_stash=stash[k],
        at_hand=at_hand,
        state=_state_bytes(case, k),
        inputs=at_hand * boundary if k else case.input_bytes,
        activations=(1 + int(k > 0)) * boundary + 2 * case.inner_bytes,
        in_transit=neighbours * boundary,
      )
    )
  return predictions
