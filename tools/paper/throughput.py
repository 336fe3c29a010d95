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
from lingvo_gpipe.schedules import TaskKind
from tools.paper import facts
from tools.paper.model_costs import ModelCosts

# The optimizer's step reads a gradient, a weight and two slots, and writes the
# latter three: seven float32 numbers.
_UPDATE_BYTES_A_PARAMETER = 28


@dataclasses.dataclass(frozen=True)
class Step:
  """A simulated training step. Times are in seconds.

  Attributes:
    sizes: How many layers each cell has.
    compute, recompute, bubble, imbalance, transfer, update: See the module.
  """

  sizes: tuple[int, ...]
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
  device: facts.Device,
  num_cells: int,
  num_micro_batches: int,
  mini_batch: int,
) -> Step:
  """Cuts a model, and times a step of fill-drain with recomputation.

  Raises:
    ValueError: M does not divide the examples of the mini-batch.
  """
  size, rest = divmod(mini_batch, num_micro_batches)
  if rest:
    raise ValueError(
      f'num_micro_batches is {num_micro_batches}, which does not divide a '
      f'mini_batch of {mini_batch}.'
    )
  costs = costs.with_examples(size)
  times = _times(costs.layers, device)
  spec = partitioner.PipelineSpec(
    num_devices=num_cells,
    num_micro_batches=num_micro_batches,
    schedule='gpipe',
    recompute='always',
    input_bytes=costs.input_bytes,
  )
  cells = partitioner.partition(costs.layers, spec).cells
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
    update=update / device.memory_bandwidth,
    **_split_step(forwards, backwards, transfers, num_micro_batches),
  )


def _times(
  layers: Sequence[LayerCost], device: facts.Device
) -> list[tuple[float, float]]:
  """Seconds of each layer's forward and backward pass."""
  found = []
  for layer in layers:
    made = layer.activation_bytes + layer.transient_bytes
    moved = 2 * made + layer.weight_bytes
    moving = moved / device.memory_bandwidth
    forward = max(float(layer.forward) / device.flops, moving)
    backward = max(float(layer.backward) / device.flops, 2 * moving)
    found.append((forward, backward))
  return found


def _split_step(
  forwards: Sequence[float],
  backwards: Sequence[float],
  transfers: Sequence[float],
  num_micro_batches: int,
) -> dict[str, float]:
  """Simulates equal cells, the cells, and the cells with links."""
  num_cells = len(forwards)
  with_again = [a + b for a, b in zip(forwards, backwards, strict=True)]
  mean_forward = sum(forwards) / num_cells
  mean_backward = sum(backwards) / num_cells
  none = [0.0] * (num_cells - 1)

  def step_time(
    forward: Sequence[float], back: Sequence[float], links: Sequence[float]
  ) -> float:
    return _step_time(forward, back, links, num_micro_batches)

  equal = step_time(
    [mean_forward] * num_cells,
    [mean_forward + mean_backward] * num_cells,
    none,
  )
  unequal = step_time(forwards, with_again, none)
  linked = step_time(forwards, with_again, transfers)
  compute = num_micro_batches * (mean_forward + mean_backward)
  recompute = num_micro_batches * mean_forward
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


@dataclasses.dataclass(frozen=True)
class ThroughputRow:
  """A published throughput and the simulated one.

  Attributes:
    simulated: Relative to that of the reference.
    bound: What equal cells reach that wait for nothing but each other.
  """

  num_micro_batches: int
  num_cells: int
  published: float
  simulated: float
  bound: float
  step: Step

  @property
  def difference(self) -> float:
    """By how much more is simulated than published, as a share of it."""
    return self.simulated / self.published - 1


def throughput_rows(
  half: facts.Throughputs, costs: ModelCosts
) -> list[ThroughputRow]:
  """Simulates all steps of half a table, of a model of these costs."""
  steps = {
    (m, k): simulate_step(costs, half.device, k, m, half.mini_batch)
    for m, k in half.published
  }
  return [
    ThroughputRow(
      num_micro_batches=m,
      num_cells=k,
      published=value,
      simulated=steps[half.reference].time / steps[m, k].time,
      bound=ideal(m, k) / ideal(*half.reference),
      step=steps[m, k],
    )
    for (m, k), value in half.published.items()
  ]


def ideal(num_micro_batches: int, num_cells: int) -> float:
  """How much faster than one device K equal cells are: K M / (M + K - 1)."""
  slots = num_micro_batches + num_cells - 1
  return num_cells * num_micro_batches / slots
