# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Steps of the paper's Tables 2 and 3, simulated on a stated device.

A layer takes the longer of two times: its FLOPs at the device's best speed, and
its bytes at its memory's best. Its forward pass moves what the backward pass
will need of it twice (it is written, and read by the next operation) and its
weights once; its backward pass moves twice as much. A cell takes the sum of its
layers' times. No time is fitted to a published one.

Links are devices of their own to the simulator, so each carries one transfer at
a time, beside the computation:

```
  cell 0   F0 F1 F2 F3                      K cells and K - 1 links are
  link 0      -0 -1 -2 -3                   2 K - 1 cells of a schedule
  cell 1         F0 F1 F2 F3
```

A step is split into shares that add up to it, each by what the step takes less
without it:

  compute     what a device does on the average, but for recomputation
  recompute   forwards that are run again in the backward pass
  bubble      what equal cells wait at the step's begin and end
  imbalance   what unequal cells wait on top
  transfer    what links add
  update      reading gradients, and reading and writing weights and slots
"""

import dataclasses
import functools
from collections.abc import Sequence

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import partitioner
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.planner.model_costs import ModelCosts
from lingvo_gpipe.schedules import TaskKind
from tools.paper import paper_facts

# The optimizer's step reads a gradient, a weight and two slots, and writes the
# latter three: seven float32 numbers.
_UPDATE_BYTES_A_PARAMETER = 28

# With gradients, what parameters take of a device's memory.
_STATE_BYTES_A_PARAMETER = paper_facts.BYTES_A_PARAMETER + 4


@dataclasses.dataclass(frozen=True)
class Assumptions:
  """What a simulation takes for granted that the paper does not say.

  Attributes:
    name: What they are, in a few words.
    memory_bound: Whether the device's memory bandwidth limits layers.
    recompute_alone: Whether a mini-batch of one micro-batch is recomputed.
    cut_by_time: Whether cells are balanced by these times; otherwise by FLOPs.
    free_ends: Whether the first and the last layer take no time, as if
      embedding and softmax lay elsewhere.
    efficiency: The share of its peaks that a device reaches.
    doubled: Whether activations have twice the bytes, float32 for bfloat16.
  """

  name: str
  memory_bound: bool = True
  recompute_alone: bool = True
  cut_by_time: bool = False
  free_ends: bool = False
  efficiency: float = 1.0
  doubled: bool = False


AS_STATED = Assumptions('as stated')
ALTERNATIVES = (
  AS_STATED,
  Assumptions('FLOPs alone, memory no limit', memory_bound=False),
  Assumptions('nothing recomputed at M = 1', recompute_alone=False),
  Assumptions('float32 activations', doubled=True),
  Assumptions('cells of equal time, not FLOPs', cut_by_time=True),
  Assumptions(
    'cells of equal time, nothing recomputed at M = 1',
    cut_by_time=True,
    recompute_alone=False,
  ),
  Assumptions('first and last layer take no time', free_ends=True),
  # What torchgpipe published for AmoebaNet-D(18, 256) on one working P40, 26.7
  # examples a second, is 3.3 TFLOP/s of 11.8.
  Assumptions('devices at 30% of their peaks', efficiency=0.3),
)


@dataclasses.dataclass(frozen=True)
class Step:
  """A simulated training step. Times are in seconds.

  Attributes:
    sizes: How many layers each cell has.
    fitting_examples: The largest mini-batch that fits into the devices' memory
      in as many micro-batches; 0 if the parameters alone do not.
    compute, recompute, bubble, imbalance, transfer, update: See the module.
  """

  sizes: tuple[int, ...]
  fitting_examples: int
  compute: float
  recompute: float
  bubble: float
  imbalance: float
  transfer: float
  update: float

  @property
  def shares(self) -> dict[str, float]:
    """What the step's time is spent on; the values add up to 1."""
    total = self.time
    return {name: value / total for name, value in self._parts().items()}

  @property
  def time(self) -> float:
    """How long the step takes."""
    return sum(self._parts().values())

  def _parts(self) -> dict[str, float]:
    return {name: getattr(self, name) for name in SHARES}


SHARES = ('compute', 'recompute', 'bubble', 'imbalance', 'transfer', 'update')


def simulate_step(
  costs: ModelCosts,
  device: paper_facts.Device,
  num_cells: int,
  num_micro_batches: int,
  mini_batch: int,
  assumptions: Assumptions = AS_STATED,
) -> Step:
  """Cuts a model, and times a step of fill-drain with recomputation.

  Args:
    costs: What the model's layers cost, in FLOPs and bytes.
    device: What each cell runs on.
    num_cells: K.
    num_micro_batches: M; it divides mini_batch.
    mini_batch: Examples in a step.
    assumptions: What is assumed.

  Raises:
    ValueError: M does not divide the mini-batch.
  """
  size, rest = divmod(mini_batch, num_micro_batches)
  if rest:
    raise ValueError(
      f'num_micro_batches is {num_micro_batches}, which does not divide a '
      f'mini_batch of {mini_batch}.'
    )
  costs = costs.with_examples(size)
  if assumptions.doubled:
    costs = _doubled(costs)
  recomputes = num_micro_batches > 1 or assumptions.recompute_alone
  times = _times(costs.layers, device, assumptions)
  cells = _cut(costs, times, num_cells, num_micro_batches, assumptions)
  forwards, backwards = (
    [sum(time[i] for time in times[cell.start : cell.end]) for cell in cells]
    for i in (0, 1)
  )
  transfers = [
    cell.crossing_bytes / device.link_bandwidth for cell in cells[1:]
  ]
  parameters = [
    sum(layer.parameters for layer in costs.layers[cell.start : cell.end])
    for cell in cells
  ]
  update = max(parameters) * _UPDATE_BYTES_A_PARAMETER
  return Step(
    sizes=tuple(cell.end - cell.start for cell in cells),
    fitting_examples=_fitting_examples(
      cells, parameters, device.memory, mini_batch
    ),
    update=update / device.memory_bandwidth,
    **_split_step(
      forwards,
      forwards if recomputes else [0.0] * num_cells,
      backwards,
      transfers,
      num_micro_batches,
    ),
  )


def _doubled(costs: ModelCosts) -> ModelCosts:
  return dataclasses.replace(
    costs,
    layers=tuple(
      dataclasses.replace(
        layer,
        activation_bytes=2 * layer.activation_bytes,
        output_bytes=2 * layer.output_bytes,
      )
      for layer in costs.layers
    ),
  )


# Seconds of a layer's forward and backward pass.
Times = Sequence[tuple[float, float]]


def _times(
  layers: Sequence[LayerCost],
  device: paper_facts.Device,
  assumptions: Assumptions,
) -> Times:
  found = []
  for layer in layers:
    moved = 2 * layer.activation_bytes + layer.weight_bytes
    moving = moved / device.memory_bandwidth if assumptions.memory_bound else 0
    forward = max(float(layer.forward) / device.flops, moving)
    backward = max(float(layer.backward) / device.flops, 2 * moving)
    scale = 1 / assumptions.efficiency
    found.append((forward * scale, backward * scale))
  if assumptions.free_ends:
    found[0] = found[-1] = (0.0, 0.0)
  return found


def _cut(
  costs: ModelCosts,
  times: Times,
  num_cells: int,
  num_micro_batches: int,
  assumptions: Assumptions,
) -> tuple[partitioner.PartitionCell, ...]:
  """The cells, balanced by FLOPs or by times."""
  recomputes = num_micro_batches > 1 or assumptions.recompute_alone
  layers = list(costs.layers)
  if assumptions.cut_by_time:
    layers = [
      dataclasses.replace(layer, forward=forward, backward=backward)
      for layer, (forward, backward) in zip(layers, times, strict=True)
    ]
  if assumptions.free_ends:
    for i in (0, -1):
      layers[i] = dataclasses.replace(layers[i], forward=0, backward=0)
  spec = partitioner.PipelineSpec(
    num_devices=num_cells,
    num_micro_batches=num_micro_batches,
    schedule='gpipe',
    recompute='always' if recomputes else 'never',
    input_bytes=costs.input_bytes,
  )
  return partitioner.partition(layers, spec).cells


def _fitting_examples(
  cells: Sequence[partitioner.PartitionCell],
  parameters: Sequence[int],
  device_memory: int,
  mini_batch: int,
) -> int:
  """The largest mini-batch that fits, its size the only thing that varies."""
  fitting = []
  for cell, number in zip(cells, parameters, strict=True):
    free = device_memory - _STATE_BYTES_A_PARAMETER * number
    needed = cell.memory.stash + cell.memory.activations
    fitting.append(mini_batch * max(free, 0) // needed)
  return min(fitting)


def _split_step(
  forwards: Sequence[float],
  again: Sequence[float],
  backwards: Sequence[float],
  transfers: Sequence[float],
  num_micro_batches: int,
) -> dict[str, float]:
  """Simulates equal cells, the cells, and the cells with links."""
  num_cells = len(forwards)
  with_again = [a + b for a, b in zip(again, backwards, strict=True)]
  mean_forward = sum(forwards) / num_cells
  mean_again = sum(again) / num_cells
  mean_backward = sum(backwards) / num_cells
  none = [0.0] * (num_cells - 1)

  def step_time(
    forward: Sequence[float], back: Sequence[float], links: Sequence[float]
  ) -> float:
    return _step_time(forward, back, links, num_micro_batches)

  equal = step_time(
    [mean_forward] * num_cells,
    [mean_again + mean_backward] * num_cells,
    none,
  )
  unequal = step_time(forwards, with_again, none)
  linked = step_time(forwards, with_again, transfers)
  compute = num_micro_batches * (mean_forward + mean_backward)
  recompute = num_micro_batches * mean_again
  return {
    'compute': compute,
    'recompute': recompute,
    # Rounding may leave less than nothing.
    'bubble': max(equal - compute - recompute, 0.0),
    'imbalance': max(unequal - equal, 0.0),
    'transfer': max(linked - unequal, 0.0),
  }


def _step_time(
  forwards: Sequence[float],
  backwards: Sequence[float],
  links: Sequence[float],
  num_micro_batches: int,
) -> float:
  """The time of a schedule in which each link is a cell between two others."""
  durations: dict[tuple[TaskKind, int], float] = {}
  for i, (forward, backward) in enumerate(
    zip(forwards, backwards, strict=True)
  ):
    durations[TaskKind.FORWARD, 2 * i] = forward
    durations[TaskKind.BACKWARD, 2 * i] = backward
  for i, time in enumerate(links):
    durations[TaskKind.FORWARD, 2 * i + 1] = time
    durations[TaskKind.BACKWARD, 2 * i + 1] = time
  schedule = _fill_drain(2 * len(forwards) - 1, num_micro_batches)
  return float(schedules.simulate(schedule, durations).step_time)


@functools.cache
def _fill_drain(num_cells: int, num_micro_batches: int) -> schedules.Schedule:
  return schedules.make_schedule('gpipe', range(num_cells), num_micro_batches)
