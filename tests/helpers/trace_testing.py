# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Steps of pipelines that nobody ran, as TensorFlow would record them."""

import types

from lingvo_gpipe import schedules
from lingvo_gpipe.schedules import Task, TaskKind
from lingvo_gpipe.schedules.task import EmittedSchedule
from lingvo_gpipe.tracing import events
from lingvo_gpipe.tracing.task_times import measured_step

MS = 1e-3
START = 1.7e9  # Seconds of the epoch.


def cpu(task, process=None):
  if process is None:
    return f'/job:localhost/replica:0/task:0/device:CPU:{task}'
  return f'/job:worker/replica:0/task:{process}/device:CPU:{task}'


def emitted(
  name='1f1b', num_cells=2, num_micro_batches=4, workers=False, **making
):
  schedule = schedules.make_schedule(
    name, tuple(range(num_cells)), num_micro_batches, **making
  )
  devices = tuple(cpu(0, k) if workers else cpu(k) for k in range(num_cells))
  tasks = schedule.in_order()
  return EmittedSchedule(
    schedule,
    devices,
    {op_name(t): t for t in tasks},
    {recompute_name(t): t for t in tasks if t.kind == TaskKind.BACKWARD},
  )


def op_name(task):
  return (
    f'fprop/net/cell_{task.cell}_{task.kind.value}{task.micro_batch}'
    f'/cell_{task.cell}'
  )


def recompute_name(task):
  return f'{op_name(task)}_recompute'


def node(name, start, end, label='', micros_only=False):
  """A NodeExecStats; times in seconds after START."""
  nanos = round(START * 1e9) + round(start * 1e9)
  length = round((end - start) * 1e9)
  return types.SimpleNamespace(
    node_name=name,
    timeline_label=label,
    all_start_micros=nanos // 1000,
    all_start_nanos=0 if micros_only else nanos,
    op_start_rel_micros=0,
    op_start_rel_nanos=0,
    op_end_rel_micros=length // 1000,
    op_end_rel_nanos=length,
  )


def step_stats(nodes):
  return types.SimpleNamespace(
    dev_stats=[
      types.SimpleNamespace(device=device, node_stats=of_device)
      for device, of_device in nodes.items()
    ]
  )


def durations(forward=(1.0, 1.0), backward=(2.0, 2.0)):
  """Milliseconds of each cell's tasks as seconds by (kind, cell)."""
  found = {}
  for k, (f, b) in enumerate(zip(forward, backward, strict=True)):
    found[TaskKind.FORWARD, k] = f * MS
    found[TaskKind.BACKWARD, k] = b * MS
  return found


def run(
  the_emitted, of, *, transfer=0.0, delay=0.0, clock=lambda device: 0.0, more=()
):
  """The events of a step, with 3 ms before and 4 ms after the pipeline.

  Args:
    of: Durations, by (kind, cell).
    transfer: Seconds that a result takes to another worker.
    delay: Seconds by which each task starts late.
    clock: How far a device's clock is ahead.
    more: Nodes of the last device.
  """
  schedule = the_emitted.schedule
  timeline = schedules.simulate(
    schedule, {key: d + delay for key, d in of.items()}, transfer
  )
  nodes = {device: [] for device in the_emitted.devices}
  for task in timeline.start:
    device = the_emitted.devices[task.cell]
    shift = 3 * MS + clock(device)
    start = timeline.start[task] + delay
    nodes[device].append(
      node(op_name(task), start + shift, timeline.end[task] + shift)
    )
    for needed in schedule.dependencies(task):
      source = the_emitted.devices[needed.cell]
      if transfer and source != device:
        sent = timeline.end[needed] + shift
        label = (
          f'[1B] [8Mb/s] edge_7_{op_name(needed)} from {source} to {device}'
        )
        nodes[device].append(
          node('RecvTensor', sent, sent + transfer, label, micros_only=True)
        )
  nodes[the_emitted.devices[-1]] += more
  end = timeline.step_time + 7 * MS
  nodes[the_emitted.devices[0]].append(node('update', end - MS, end))
  return events.read(step_stats(nodes), START)


def step(the_emitted, of, **kwargs):
  return measured_step(the_emitted, run(the_emitted, of, **kwargs))


def forward(cell, micro_batch):
  return Task(TaskKind.FORWARD, cell, micro_batch)


def backward(cell, micro_batch):
  return Task(TaskKind.BACKWARD, cell, micro_batch)
