# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many bytes of variables each device or worker holds."""

import collections

import lingvo.compat as tf

_MIB = 2**20


def bytes_by_place(graph):
  """Adds up the variables of a graph.

  Args:
    graph: A `tf.Graph`.

  Returns:
    {place: (bytes of trainable weights, bytes of all variables)}, in order. A
    place is '/job:worker/task:0', say, where devices of several processes are
    used, and else a device's name.
  """
  with graph.as_default():
    everything, trainable = tf.global_variables(), tf.trainable_variables()
  specs = {v.ref(): tf.DeviceSpec.from_string(v.device) for v in everything}
  processes = {(spec.job, spec.task) for spec in specs.values()}
  totals = collections.defaultdict(lambda: [0, 0])
  is_weight = {v.ref() for v in trainable}
  for variable in everything:
    spec = specs[variable.ref()]
    if len(processes) > 1:
      place = f'/job:{spec.job}/task:{spec.task}'
    else:
      place = variable.device
    size = variable.shape.num_elements() * variable.dtype.size
    totals[place][0] += size if variable.ref() in is_weight else 0
    totals[place][1] += size
  return {place: tuple(totals[place]) for place in sorted(totals)}


def describe(graph):
  """One line on what each place holds."""
  parts = [
    f'{place} {weights / _MIB:.3f} ({total / _MIB:.3f})'
    for place, (weights, total) in bytes_by_place(graph).items()
  ]
  return 'Weights in MiB (with optimizer slots and counters): ' + ', '.join(
    parts
  )
