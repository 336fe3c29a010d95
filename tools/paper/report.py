# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The paper's tables next to the planner's, as text that is also Markdown."""

import textwrap
from collections.abc import Iterable, Sequence

from lingvo_gpipe.cutting import text_table
from tools.paper import facts, memory, throughput
from tools.paper.memory import MemoryRow
from tools.paper.throughput import ThroughputRow

# A model of a table, what it is simulated on, and its rows.
Half = tuple[facts.Throughputs, Sequence[ThroughputRow]]

_INTRODUCTION = """
The tables of Huang et al., "GPipe: Efficient Training of Giant Neural Networks
using Pipeline Parallelism", arXiv:1811.06965v5, next to what this package's
planner predicts for the same models. The models are the registered ones. Each
kind of layer was traced once; nothing was allocated and nothing was run. No
prediction is fitted to a published figure, but two readings of Table 1 were
chosen because they fit: whether its G means GB or GiB, and that its activation
memory includes gradients.
"""

_PARAMETERS = """
The paper counts 12 bytes per parameter: a float32 weight and the two slots of
RMSProp or Adam. Its "GB" are GB for AmoebaNet and GiB for Transformers: these
are the units in which 12 bytes fit best. "Our state" is what this engine keeps:
weights, slots, the sums of gradients and, with several micro-batches, the
newest gradients. That is 16 or 20 bytes per parameter. For Transformer-3 the
paper prints each of the two memories in the other's row.
"""

_ACTIVATIONS = f"""
The memory of all devices together, in the same units. The published parameter
memory has no room for gradients, so they are counted here, once. The schedule
is fill-drain, everything is recomputed, and M = {memory.NUM_MICRO_BATCHES}
(the paper does not give M). AmoebaNet is in float32, and Transformers are in
bfloat16, as they are registered. Naive-1 (no stash) does not split the
mini-batch and recomputes nothing.
"""

_FIT = """
How much shorter a step is with recompute='fit', which keeps the activations
that there is room for. A device holds no more than the fullest one does under
fill-drain with everything recomputed, as above; that step is the measure.
Transfers take no time. Pipeline-1 recomputes nothing under 1F1B.
"""

_THROUGHPUT = """
The throughput of K cells on K devices, relative to that of the first row. It is
simulated with the cells that the partitioner cuts by FLOPs. The time of a layer
is that of its FLOPs at the device's peak, or that of its bytes at the memory's
peak, whichever is longer. A link carries one transfer at a time, during the
computation. The mini-batch is the same in all rows, because the paper does not
say how it was "adjusted". "Bound" is what K equal cells could reach if nothing
but the bubble were lost: K M / (M + K - 1), relative to that of the first row.
So a published figure above the bound must have used another mini-batch. The
last columns show what the simulated step is spent on. The paper reports for its
own steps: recomputation up to 23%, imbalance 3.2% with two partitions, and a
bubble a little below the theoretical one.
"""


def report(
  rows: Sequence[MemoryRow],
  halves: Sequence[Half],
  command: str,
  picture: str = '',
) -> str:
  """All tables that there are, with what is assumed.

  `picture` is the file to which a page next to it links, if any.
  """
  parts = ['# The tables of the GPipe paper', _paragraph(_INTRODUCTION)]
  parts.append(f'Made by `{command}`.')
  if picture:
    parts.append(f'![Published and planned figures]({picture})')
  if rows:
    parts += ['## Table 1: parameters and their memory']
    parts += [_paragraph(_PARAMETERS), _parameters(rows)]
    parts += ['## Table 1: peak activation memory']
    parts += [_paragraph(_ACTIVATIONS), _activations(rows)]
  pipelines = [row for row in rows if row.steps]
  if pipelines:
    parts += ["## Table 1: steps with recompute='fit'"]
    parts += [_paragraph(_FIT), _steps(pipelines)]
  if halves:
    parts += ['# Throughput', _paragraph(_THROUGHPUT)]
  for half, of_half in halves:
    parts += [f'## {half.table}: {half.name}', _setting(half)]
    parts += [_throughputs(of_half)]
  return '\n\n'.join(parts)


def _parameters(rows: Iterable[MemoryRow]) -> str:
  return text_table.table(
    ('model', 'setting', 'published', 'planner', 'difference')
    + ('unit', 'published', '12 bytes', 'difference', 'our state'),
    [
      (
        row.published.name,
        row.published.setting,
        text_table.short_count(row.published.parameters),
        f'{row.parameters:,}',
        signed(row.parameters / row.published.parameters - 1),
        row.unit,
        f'{row.published.memories[0]:g}',
        f'{row.memories[0]:.2f}',
        signed(row.memories[0] / row.published.memories[0] - 1),
        f'{row.in_unit(row.state_bytes):.2f}',
      )
      for row in rows
    ],
  )


def _activations(rows: Iterable[MemoryRow]) -> str:
  return text_table.table(
    ('model', 'K', 'published', 'stash', 'activations', 'gradients')
    + ('sum', 'difference'),
    [
      (
        row.published.name,
        str(row.published.num_devices),
        f'{row.published.memories[1]:g} {row.unit}',
        f'{row.in_unit(row.stash_bytes):.2f}',
        f'{row.in_unit(row.activation_bytes):.2f}',
        f'{row.in_unit(row.gradient_bytes):.2f}',
        f'{row.memories[1]:.2f}',
        signed(row.memories[1] / row.published.memories[1] - 1),
      )
      for row in rows
    ],
  )


def _steps(rows: Iterable[MemoryRow]) -> str:
  names = {'gpipe': 'fill-drain', '1f1b': '1F1B'}
  return text_table.table(
    (
      *('model', 'K', 'a device'),
      *(f'{names[way]}, {policy}' for way, policy in memory.OTHER_WAYS),
    ),
    [
      (
        row.published.name,
        str(row.published.num_devices),
        f'{row.in_unit(row.device_bytes):.2f} {row.unit}',
        *(signed(step - 1) for step in row.steps),
      )
      for row in rows
    ],
  )


def _setting(half: facts.Throughputs) -> str:
  device = half.device
  return _paragraph(
    f'Simulated on: {device.name} ({device.flops / 1e12:g} TFLOP/s, '
    f'{device.memory_bandwidth / 1e9:g} GB/s of memory, '
    f'{device.link_bandwidth / 1e9:.1f} GB/s to a neighbour), {half.precision} '
    f'activations, mini-batches of {half.mini_batch}. Source: '
    f'{device.sources}.'
  )


def _throughputs(rows: Iterable[ThroughputRow]) -> str:
  return text_table.table(
    ('M', 'K', 'published', 'simulated', 'difference', 'bound')
    + (*throughput.SHARES, 'step', 'layers a cell'),
    [
      (
        str(row.num_micro_batches),
        str(row.num_cells),
        f'{row.published:.2f}',
        f'{row.simulated:.2f}',
        signed(row.simulated / row.published - 1),
        f'{row.bound:.2f}',
        *(
          f'{row.step.parts[name] / row.step.time:.1%}'
          for name in throughput.SHARES
        ),
        f'{1000 * row.step.time:,.0f} ms',
        ' '.join(map(str, row.step.sizes)),
      )
      for row in rows
    ],
  )


def signed(share: float) -> str:
  """A difference in percent with one digit; '0.0%' has no sign."""
  text = f'{share:+.1%}'
  return text[1:] if text[1:] == '0.0%' else text


def _paragraph(text: str) -> str:
  return textwrap.fill(' '.join(text.split()), 80, break_on_hyphens=False)
