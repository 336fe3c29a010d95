# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a step of a pipeline will take: time, bubble, and each device's memory.

```
  Workload, Setting --partition--> cells --memory model--> bytes of each device
                                     |
                                     '--simulated schedule--> time, bubble
```
"""

import dataclasses
import functools

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import partitioner, step_time
from lingvo_gpipe.cutting.partitioner import Partition
from lingvo_gpipe.cutting.units import format_seconds
from lingvo_gpipe.planner.workload import Setting, Workload
from lingvo_gpipe.schedules import OrderProblem
from lingvo_gpipe.schedules.lower_bound import lower_bound


@dataclasses.dataclass(frozen=True)
class Speeds:
  """How fast devices and links are.

  Attributes:
    seconds_a_cost: Seconds for one unit of the layers' times: 1 / (FLOP/s) if
      they are FLOPs, 1 if they are seconds. None: not known; times are then
      shares of a step on one device without recomputation.
    link_bytes_a_second: From device to device; None: no limit.
    link_latency: Additional seconds of each transfer.

  ValueError if there is a speed of links, but none of devices.
  """

  seconds_a_cost: float | None = None
  link_bytes_a_second: float | None = None
  link_latency: float = 0.0

  def __post_init__(self) -> None:
    has_link = self.link_bytes_a_second is not None or self.link_latency
    if has_link and not self.are_absolute:
      raise ValueError(
        '--link_speed and --link_latency need the speed of the devices: give '
        '--device_speed or --balance=measured.'
      )

  @property
  def are_absolute(self) -> bool:
    return self.seconds_a_cost is not None

  def text(self, time: float) -> str:
    return format_seconds(time) if self.are_absolute else f'{time:.3f}'

  def transfer(self, num_bytes: int) -> float:
    if self.link_bytes_a_second is None:
      return self.link_latency
    return self.link_latency + num_bytes / self.link_bytes_a_second


@dataclasses.dataclass(frozen=True)
class DeviceBytes:
  """The bytes that one device needs at its peak, by kind.

  Attributes:
    gradients: Sums of all its layers' gradients and, with several
      micro-batches, the newest one's of its largest cell.
    slots: The optimizer's.
    stash: Of micro-batches between forward and backward; without recomputation
      their activations are part of it.
    activations: Of one micro-batch of its largest cell while its tasks run:
      what is recomputed, and outputs that nothing keeps.
    kept: The share of all activations that is not recomputed, from 0 to 1.
  """

  weights: int
  gradients: int
  slots: int
  stash: int
  activations: int
  kept: float

  @property
  def total(self) -> int:
    state = self.weights + self.gradients + self.slots
    return state + self.stash + self.activations


@dataclasses.dataclass(frozen=True)
class Forecast:
  """What a setting will take. Times are simulated when first asked for.

  Attributes:
    partition: How the layers are cut: the best cut that fits, or if none does
      the one whose largest cell needs least.
    fits: Whether every device fits its limit; True if there is none.
  """

  workload: Workload
  setting: Setting
  speeds: Speeds
  partition: Partition
  fits: bool

  @functools.cached_property
  def devices(self) -> tuple[DeviceBytes, ...]:
    return tuple(map(self._device_bytes, range(self.setting.num_devices)))

  @property
  def examples(self) -> int | None:
    return self.workload.micro_batch(self.setting.num_micro_batches)

  @property
  def fullest(self) -> int:
    return max(self.partition.device_memory)

  def simulate(self) -> schedules.Timeline:
    cut, setting = self.partition, self.setting
    schedule = schedules.make_schedule(
      setting.schedule,
      cut.spec.cell_devices,
      setting.num_micro_batches,
      first_backward=cut.first_backward,
      costs=self._order_problem() if setting.schedule == 'auto' else None,
    )
    cells = [cell.layers for cell in cut.cells]
    return schedules.simulate(
      schedule,
      step_time.task_times(cells, cut.spec, schedule, self._unit),
      [self.speeds.transfer(cell.crossing_bytes) for cell in cut.cells[1:]],
    )

  def least_step_time(self) -> float:
    """What no order of its cells' tasks under 'auto' can be quicker than."""
    problem = self._order_problem()
    if problem is None:
      return self.step_time
    return lower_bound(problem) * self._unit

  def _order_problem(self) -> OrderProblem | None:
    """What 'auto' orders; None if there are no backward tasks."""
    cut, setting = self.partition, self.setting
    if cut.first_backward == setting.num_cells:
      return None
    return cut.order_problem(
      cut.spec.cell_devices, setting.num_micro_batches, cut.first_backward
    )

  @functools.cached_property
  def _simulated(self) -> tuple[float, float]:
    timeline = self.simulate()
    return float(timeline.step_time), float(timeline.bubble)

  @property
  def step_time(self) -> float:
    """Of one step, in seconds, or as `Speeds` says."""
    return self._simulated[0]

  @property
  def speedup(self) -> float:
    """Over one device without recomputation."""
    alone = float(self.workload.one_device_cost) * self._unit
    return alone / self.step_time if self.step_time else 1.0

  @property
  def bubble(self) -> float:
    """The share of device time, from first to last task, in which none runs."""
    return self._simulated[1]

  @property
  def recomputation(self) -> float:
    """The share of that time in which forward passes run again."""
    cut, time = self.partition, self.step_time / self._unit
    again = sum(
      count * float(cut.spec.forward_again(cell.layers))
      for cell, count in zip(cut.cells, self._recomputed, strict=True)
    )
    return again / (time * cut.spec.num_devices) if time else 0.0

  @property
  def _recomputed(self) -> list[int]:
    first = self.partition.first_backward
    return [0] * first + list(self.partition.spec.counts.recomputed[first:])

  @property
  def _unit(self) -> float:
    """What one unit of the layers' times takes, as `Speeds` says."""
    if self.speeds.seconds_a_cost is not None:
      return self.speeds.seconds_a_cost
    one_device = float(self.workload.one_device_cost)
    return 1 / one_device if one_device else 1.0

  def _device_bytes(self, device: int) -> DeviceBytes:
    spec = self.partition.spec
    cells = [cell for cell in self.partition.cells if cell.device == device]
    layers = [layer for cell in cells for layer in cell.layers]
    memory = [cell.memory for cell in cells]
    largest = max(memory, key=lambda needs: needs.transient)
    weights = sum(layer.weight_bytes for layer in layers)
    slots = sum(layer.optimizer_bytes for layer in layers)
    state = sum(needs.state for needs in memory)
    whole = sum(layer.activation_bytes for layer in layers)
    recomputed = sum(
      self._recomputed[cell.index] * layer.activation_bytes
      for cell in cells
      for layer in cell.layers
      if layer.name not in spec.kept
    )
    return DeviceBytes(
      weights=weights,
      gradients=state - weights - slots + largest.new_gradients,
      slots=slots,
      stash=sum(needs.stash for needs in memory),
      activations=largest.activations,
      kept=1 - recomputed / (whole * spec.num_micro_batches) if whole else 1.0,
    )


def forecast(
  workload: Workload,
  setting: Setting,
  speeds: Speeds | None = None,
  device_memory: int | None = None,
  splits: tuple[int, ...] | None = None,
) -> Forecast:
  """Cuts a workload for a setting; by default times are relative.

  `device_memory` is in bytes, `splits` are the first layers of cells but the
  first, if decided. PartitionError if there are more cells than layers, or
  wrong splits; ValueError if M does not divide the mini-batch.
  """
  layers = workload.layers_for(setting.num_micro_batches)
  if splits is not None and len(splits) + 1 != setting.num_cells:
    splits = None
  spec = workload.spec(setting, device_memory)
  cut = partitioner.find(layers, spec, splits)
  fits = cut is not None
  if cut is None:
    if setting.recompute == schedules.FIT:
      spec = dataclasses.replace(spec, recompute='always')
    least = splits or partitioner.least_memory_splits(layers, spec)
    free = dataclasses.replace(spec, device_memory=None)
    cut = partitioner.partition(layers, free, least)
    fits = device_memory is None or max(cut.device_memory) <= device_memory
  return Forecast(workload, setting, speeds or Speeds(), cut, fits)
