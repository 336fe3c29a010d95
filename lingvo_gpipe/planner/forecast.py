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
from lingvo_gpipe.cutting.partitioner import Partition, PartitionCell
from lingvo_gpipe.planner.workload import Setting, Workload
from lingvo_gpipe.schedules.lower_bound import lower_bound


@dataclasses.dataclass(frozen=True)
class Speeds:
  """How fast devices and links are.

  Attributes:
    seconds_a_cost: Seconds that a device takes for one unit of the layers'
      times: 1 / (FLOP/s) if they are FLOPs, 1 if they are seconds. None where
      that is not known: times are then shares of what a step takes on one
      device without recomputation.
    link_bytes_a_second: Bytes a second from device to device; None: transfers
      take the latency alone.
    link_latency: Additional seconds of each transfer.
    step_overhead: Seconds that a step takes besides its tasks, however it is
      run: starting it on all devices, and hearing that it is done.

  Raises:
    ValueError: There is one of the others, but no speed of devices.
  """

  seconds_a_cost: float | None = None
  link_bytes_a_second: float | None = None
  link_latency: float = 0.0
  step_overhead: float = 0.0

  def __post_init__(self) -> None:
    has_link = self.link_bytes_a_second is not None or self.link_latency
    if (has_link or self.step_overhead) and self.seconds_a_cost is None:
      raise ValueError(
        '--link_speed, --link_latency and --step_overhead need the speed of '
        'the devices: give --device_speed or --balance=measured.'
      )

  @property
  def are_absolute(self) -> bool:
    """Whether times are in seconds."""
    return self.seconds_a_cost is not None

  def transfer(self, num_bytes: int) -> float:
    """Seconds that a transfer takes."""
    if self.link_bytes_a_second is None:
      return self.link_latency
    return self.link_latency + num_bytes / self.link_bytes_a_second


@dataclasses.dataclass(frozen=True)
class DeviceBytes:
  """What one device needs at its peak, by kind.

  Attributes:
    device: Its number.
    weights: Of all its layers.
    gradients: Sums of all its layers' gradients and, with several
      micro-batches, the newest one's of its largest cell.
    slots: The optimizer's.
    stash: What is kept of micro-batches between forward and backward; without
      recomputation their activations are part of it.
    activations: Of one micro-batch of its largest cell while its tasks run:
      what is recomputed, and outputs that nothing keeps.
    kept: The share of all its micro-batches' activations that is not
      recomputed, from 0 to 1.
  """

  device: int
  weights: int
  gradients: int
  slots: int
  stash: int
  activations: int
  kept: float

  @property
  def total(self) -> int:
    return (
      self.weights + self.gradients + self.slots + self.stash + self.activations
    )


@dataclasses.dataclass(frozen=True)
class Forecast:
  """What a setting will take. Times are simulated when first asked for.

  Attributes:
    workload: The model.
    setting: The setting.
    speeds: Of devices and links.
    partition: How the layers are cut: the best cut that fits, or if none does
      the one whose largest cell needs least.
    devices: Each device's memory.
    fits: Whether every device fits its limit; True if there is none.
  """

  workload: Workload
  setting: Setting
  speeds: Speeds
  partition: Partition
  devices: tuple[DeviceBytes, ...]
  fits: bool

  @property
  def fullest(self) -> int:
    """What the fullest device needs."""
    return max(device.total for device in self.devices)

  def simulate(self) -> schedules.Timeline:
    """Times the schedule with the cells' own costs."""
    cut, setting = self.partition, self.setting
    first, devices = cut.first_backward, cut.spec.cell_devices
    costs = None
    if setting.schedule == 'auto' and first < len(devices):
      costs = cut.order_problem(devices, setting.num_micro_batches, first)
    schedule = schedules.make_schedule(
      setting.schedule,
      devices,
      setting.num_micro_batches,
      first_backward=first,
      costs=costs,
    )
    cells = [cell.layers for cell in cut.cells]
    return schedules.simulate(
      schedule,
      step_time.task_times(cells, cut.spec, schedule, self._unit),
      [self.speeds.transfer(cell.crossing_bytes) for cell in cut.cells[1:]],
    )

  def least_step_time(self) -> float:
    """What no order of its cells' tasks under 'auto' can be quicker than."""
    cut, setting = self.partition, self.setting
    first = cut.first_backward
    if first == setting.num_cells:
      return self.step_time
    problem = cut.order_problem(
      cut.spec.cell_devices, setting.num_micro_batches, first
    )
    return lower_bound(problem) * self._unit + self.speeds.step_overhead

  @functools.cached_property
  def _simulated(self) -> tuple[float, float]:
    """The time from the first task to the last, and the bubble."""
    timeline = self.simulate()
    return float(timeline.step_time), float(timeline.bubble)

  @property
  def step_time(self) -> float:
    """Of one step, in seconds, or as `Speeds` says."""
    return self._simulated[0] + self.speeds.step_overhead

  @property
  def speedup(self) -> float:
    """How many times faster than one device without recomputation."""
    alone = float(self.workload.one_device_cost) * self._unit
    alone += self.speeds.step_overhead
    return alone / self.step_time if self.step_time else 1.0

  @property
  def bubble(self) -> float:
    """The share of device time in which no task runs.

    It counts from the first task to the last.
    """
    return self._simulated[1]

  @property
  def recomputation(self) -> float:
    """The share of that time in which forward passes run again."""
    cut, time = self.partition, self._simulated[0] / self._unit
    again = sum(
      count * float(cut.spec.forward_again(cell.layers))
      for cell, count in _trained(cut)
    )
    return again / (time * cut.spec.num_devices) if time else 0.0

  @property
  def _unit(self) -> float:
    """What one unit of the layers' times takes."""
    if self.speeds.seconds_a_cost is not None:
      return self.speeds.seconds_a_cost
    one_device = float(self.workload.one_device_cost)
    return 1 / one_device if one_device else 1.0


def forecast(
  workload: Workload,
  setting: Setting,
  speeds: Speeds | None = None,
  device_memory: int | None = None,
  splits: tuple[int, ...] | None = None,
) -> Forecast:
  """Cuts a workload for a setting.

  Args:
    workload: The model.
    setting: How to run it.
    speeds: Of devices and links; by default times are relative.
    device_memory: Bytes that a device may hold; None for no limit.
    splits: The first layer of each cell but the first, if that is decided.

  Raises:
    PartitionError: There are more cells than layers, or wrong splits.
    ValueError: M does not divide the mini-batch.
  """
  cut = _cut(workload, setting, device_memory, splits)
  devices = tuple(device_bytes(cut, d) for d in range(setting.num_devices))
  return Forecast(
    workload=workload,
    setting=setting,
    speeds=speeds or Speeds(),
    partition=cut,
    devices=devices,
    fits=_fits(cut, device_memory),
  )


def _cut(
  workload: Workload,
  setting: Setting,
  device_memory: int | None,
  splits: tuple[int, ...] | None,
) -> Partition:
  layers = workload.layers_for(setting.num_micro_batches)
  if splits is not None and len(splits) + 1 != setting.num_cells:
    splits = None
  spec = workload.spec(setting, device_memory)
  cut = partitioner.find(layers, spec, splits)
  if cut is not None:
    return cut
  if setting.recompute == schedules.FIT:
    spec = dataclasses.replace(spec, recompute='always')
  least = splits or partitioner.least_memory_splits(layers, spec)
  free = dataclasses.replace(spec, device_memory=None)
  return partitioner.partition(layers, free, least)


def _fits(cut: Partition, device_memory: int | None) -> bool:
  return device_memory is None or max(cut.device_memory) <= device_memory


def _trained(cut: Partition) -> list[tuple[PartitionCell, int]]:
  """Cells with backward tasks, and how many micro-batches they recompute."""
  both = list(zip(cut.cells, cut.spec.num_recomputed, strict=True))
  return both[cut.first_backward :]


def _kept(cut: Partition, device: int) -> float:
  """The share of a device's activations that is not recomputed."""
  whole = sum(
    layer.activation_bytes
    for cell in cut.cells
    if cell.device == device
    for layer in cell.layers
  )
  again = sum(
    count * layer.activation_bytes
    for cell, count in _trained(cut)
    if cell.device == device
    for layer in cell.layers
    if layer.name not in cut.spec.kept
  )
  return 1 - again / (whole * cut.spec.num_micro_batches) if whole else 1.0


def device_bytes(cut: Partition, device: int) -> DeviceBytes:
  """What one device of a partition needs, by kind."""
  cells = [cell for cell in cut.cells if cell.device == device]
  layers = [layer for cell in cells for layer in cell.layers]
  weights = sum(layer.weight_bytes for layer in layers)
  slots = sum(layer.optimizer_bytes for layer in layers)
  state = sum(cell.memory.state for cell in cells)
  largest = max(
    (cell.memory for cell in cells), key=lambda memory: memory.transient
  )
  need = DeviceBytes(
    device=device,
    weights=weights,
    gradients=state - weights - slots + largest.new_gradients,
    slots=slots,
    stash=sum(cell.memory.stash for cell in cells),
    activations=largest.activations,
    kept=_kept(cut, device),
  )
  assert need.total == cut.device_memory[device]
  return need
