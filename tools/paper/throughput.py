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

A step is the sum of these, each what the step would take less without it:

  compute     what a device does on the average, but for recomputation
  recompute   forwards that are run again in the backward pass
  bubble      what equal cells wait at the step's begin and end
  imbalance   what unequal cells wait on top
  transfer    what links add
  update      reading gradients, and reading and writing weights and slots
"""

import dataclasses
from collections.abc import Mapping, Sequence

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import partitioner
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.schedules import TaskKind
from tools.paper import facts
from tools.paper.model_costs import ModelCosts

# The optimizer's step reads a gradient, a weight and two slots, and writes the
# latter three: seven float32 numbers.
_UPDATE_BYTES_A_PARAMETER = 28


SHARES = ('compute', 'recompute', 'bubble', 'imbalance', 'transfer', 'update')


@dataclasses.dataclass(frozen=True)
class Step:
  """A simulated training step.

  Attributes:
    sizes: How many layers each cell has.
    parts: Seconds of each of SHARES.
  """

  sizes: tuple[int, ...]
  parts: Mapping[str, float]

  @property
  def time(self) -> float:
    """Seconds of all."""
    return sum(self.parts.values())


def simulate_step(
  costs: ModelCosts,
  device: facts.Device,
  num_cells: int,
  num_micro_batches: int,
  mini_batch: int,
) -> Step:
  """Cuts a model, and times a step of fill-drain with recomputation."""
  costs = costs.with_examples(mini_batch // num_micro_batches)
  spec = partitioner.PipelineSpec(
    num_devices=num_cells,
    num_micro_batches=num_micro_batches,
    schedule='gpipe',
    recompute='always',
    input_bytes=costs.input_bytes,
  )
  cells = partitioner.partition(costs.layers, spec).cells
  layers = [costs.layers[cell.start : cell.end] for cell in cells]
  times = [[_times(layer, device) for layer in cell] for cell in layers]
  forwards, backwards = (
    [sum(both[i] for both in cell) for cell in times] for i in (0, 1)
  )
  transfers = [
    cell.crossing_bytes / device.link_bandwidth for cell in cells[1:]
  ]
  parts = _split_step(forwards, backwards, transfers, num_micro_batches)
  most = max(sum(layer.parameters for layer in cell) for cell in layers)
  update = most * _UPDATE_BYTES_A_PARAMETER / device.memory_bandwidth
  return Step(tuple(map(len, layers)), {**parts, 'update': update})


def _times(layer: LayerCost, device: facts.Device) -> tuple[float, float]:
  """Seconds of a layer's forward and backward pass."""
  made = layer.activation_bytes + layer.transient_bytes
  moving = (2 * made + layer.weight_bytes) / device.memory_bandwidth
  return (
    max(float(layer.forward) / device.flops, moving),
    max(float(layer.backward) / device.flops, 2 * moving),
  )


def _split_step(
  forwards: Sequence[float],
  backwards: Sequence[float],
  transfers: Sequence[float],
  num_micro_batches: int,
) -> dict[str, float]:
  """Simulates equal cells, the cells, and the cells with links."""
  num_cells = len(forwards)
  with_again = [a + b for a, b in zip(forwards, backwards, strict=True)]
  mean = sum(forwards) / num_cells
  mean_with_again = sum(with_again) / num_cells
  none = [0.0] * len(transfers)
  equal, unequal, linked = (
    _step_time(*times, num_micro_batches)
    for times in (
      ([mean] * num_cells, [mean_with_again] * num_cells, none),
      (forwards, with_again, none),
      (forwards, with_again, transfers),
    )
  )
  compute = num_micro_batches * mean_with_again
  recompute = num_micro_batches * mean
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
  for kind, times in (
    (TaskKind.FORWARD, forwards),
    (TaskKind.BACKWARD, backwards),
  ):
    durations |= {(kind, 2 * i): time for i, time in enumerate(times)}
    durations |= {(kind, 2 * i + 1): time for i, time in enumerate(links)}
  cells = range(2 * len(forwards) - 1)
  schedule = schedules.make_schedule('gpipe', cells, num_micro_batches)
  return float(schedules.simulate(schedule, durations).step_time)


@dataclasses.dataclass(frozen=True)
class ThroughputRow:
  """A published throughput and what is simulated, relative to the reference's.

  `bound` is what equal cells reach that wait for nothing but each other.
  """

  num_micro_batches: int
  num_cells: int
  published: float
  simulated: float
  bound: float
  step: Step


def throughput_rows(
  half: facts.Throughputs, costs: ModelCosts
) -> list[ThroughputRow]:
  """Simulates all steps of half a table."""
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
