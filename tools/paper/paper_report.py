# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The paper's tables beside the planner's, as text that is also Markdown."""

import dataclasses
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from lingvo_gpipe import text_table
from tools.paper import (
  paper_comparison,
  paper_facts,
  paper_memory,
  paper_throughput,
)
from tools.paper.paper_comparison import ThroughputRow
from tools.paper.paper_memory import MemoryRow

# A model of a table, what it is simulated on, and its rows.
Half = tuple[paper_facts.Throughputs, Sequence[ThroughputRow]]

_INTRODUCTION = """
The tables of Huang et al., "GPipe: Efficient Training of Giant Neural Networks
using Pipeline Parallelism", arXiv:1811.06965v5, beside what this planner says
of the same models. The models are the registered ones, each kind of layer
traced once; nothing is allocated and nothing was run. No figure of ours is
fitted to a published one, but two readings of Table 1 are picked because they
fit: whether its G is GB or GiB, and that its activation memory includes
gradients.
"""

_PARAMETER_MEMORY = """
The paper counts 12 bytes a parameter: a float32 weight and the two slots of
RMSProp or Adam. Its "GB" are GB for AmoebaNet and GiB for Transformers: that is
the unit in which 12 bytes fit best. "Our state" is what this engine holds:
weights, slots, the sums of gradients and, with several micro-batches, the
newest gradients beside them; 16 or 20 bytes a parameter.
"""

_ACTIVATION_MEMORY = """
Of all devices together, in the same units. The published parameter memory has
no room for gradients, so they are counted here, once. Fill-drain, all
recomputed, M = {num_micro_batches}; AmoebaNet in float32, Transformers in
bfloat16, as they are registered. Naive-1 runs in one piece and recomputes
nothing. "Exact for micro-batches of" is the size of micro-batches with which
the sum would be the published figure.
"""

_THROUGHPUT = """
Throughput relative to the first row's, of K cells on K devices, simulated by
the schedule simulator with the cells that the partitioner cuts by FLOPs. A
layer takes the longer of its FLOPs at the device's peak and its bytes at its
memory's peak. Links carry one transfer at a time, beside the computation. The
mini-batch is the same in all rows, as the paper does not say to what it
"adjusted" it. "Bound" is what K equal cells could reach without any loss but
the bubble: K M / (M + K - 1), relative to the same of the first row.
"""

_SHARES = """
What the simulated step is spent on. The paper reports of its own steps:
recomputation up to 23%, imbalance 3.2% with two partitions, and a bubble a
little below the theoretical one. "Fit" is the largest mini-batch whose
activations fit into the devices' memory beside 16 bytes a parameter (gradients
included), with as many micro-batches; 0 if these alone do not.
"""

_ALTERNATIVES = """
What other assumptions make of it, one changed at a time unless two are named,
with the mean difference (as a factor) from the published throughputs. The notes
above are picked from these, so they say what may be, not what was.
"""


def summary(memory: Sequence[MemoryRow], halves: Sequence[Half]) -> str:
  """How many figures agree, and what the nearest assumptions are."""
  lines = []
  if memory:
    pipelines = [row for row in memory if not row.is_naive]
    near = sum(
      abs(row.parameter_memory_difference) <= paper_memory.NEAR_PARAMETERS
      for row in memory
    )
    lines.append(
      f'Parameter memory: {near} of {len(memory)} within '
      f'{paper_memory.NEAR_PARAMETERS:.0%}.'
    )
    near = sum(
      abs(row.activation_difference) <= paper_memory.NEAR_ACTIVATIONS
      for row in pipelines
    )
    lines.append(
      f'Peak activation memory: {near} of {len(pipelines)} pipelines within '
      f'{paper_memory.NEAR_ACTIVATIONS:.0%}; Naive-1 is not explained.'
    )
  lines += [_half_summary(half, rows) for half, rows in halves]
  return '\n'.join(_fill(f'- {line}', '  ') for line in lines)


def _half_summary(
  half: paper_facts.Throughputs, rows: Sequence[ThroughputRow]
) -> str:
  others = [row for row in rows if not row.is_reference]
  near = sum(abs(row.difference) <= paper_comparison.NEAR for row in others)
  above = sum(row.published > row.bound for row in others)
  by_name = {
    name: paper_comparison.mean_difference(rows, name)
    for name in rows[0].simulated
  }
  stated = by_name[paper_throughput.AS_STATED.name]
  nearest = min(by_name, key=lambda name: by_name[name])
  text = (
    f'{half.table}, {half.name}: {near} of {len(others)} throughputs within '
    f'{paper_comparison.NEAR:.0%}, {stated:.0%} off on the average; nearest '
    f'with "{nearest}", {by_name[nearest]:.0%} off.'
  )
  if above:
    text += (
      f' {above} are above what any pipeline reaches if all ran the same batch.'
    )
  return text


def table_1(rows: Sequence[MemoryRow]) -> str:
  """Table 1: parameters, parameter memory, activation memory."""
  return _join(
    '## Table 1: parameters',
    _parameters(rows),
    '## Table 1: parameter memory',
    _paragraph(_PARAMETER_MEMORY),
    _parameter_memory(rows),
    '## Table 1: peak activation memory',
    _paragraph(
      _ACTIVATION_MEMORY.format(
        num_micro_batches=paper_memory.NUM_MICRO_BATCHES
      )
    ),
    _activation_memory(rows),
  )


def _parameters(rows: Iterable[MemoryRow]) -> str:
  return text_table.table(
    ('model', 'setting', 'published', 'planner', 'difference'),
    [
      (
        row.published.name,
        row.published.setting,
        text_table.short_count(row.published.parameters),
        f'{row.parameters:,}',
        signed(row.parameter_difference),
      )
      for row in rows
    ],
  )


def _parameter_memory(rows: Iterable[MemoryRow]) -> str:
  header = ['model', 'unit', 'published', '12 bytes', 'difference']
  header += ['our state', 'note']
  notes = _Notes()
  return notes.below(
    header,
    [
      (
        row.published.name,
        row.unit,
        f'{row.published.memories[0]:g}',
        f'{row.parameter_memory:.2f}',
        signed(row.parameter_memory_difference),
        f'{row.in_unit(row.state_bytes):.2f}',
        notes.number(paper_memory.explain_parameters(row)),
      )
      for row in rows
    ],
  )


def _activation_memory(rows: Iterable[MemoryRow]) -> str:
  header = ['model', 'K', 'published', 'stash', 'activations', 'gradients']
  header += ['sum', 'difference', 'note']
  notes = _Notes()
  return notes.below(
    header,
    [
      (
        row.published.name,
        str(row.published.num_devices),
        f'{row.published.memories[1]:g} {row.unit}',
        '-' if row.is_naive else f'{row.in_unit(row.stash_bytes):.2f}',
        f'{row.in_unit(row.activation_bytes):.2f}',
        f'{row.in_unit(row.gradient_bytes):.2f}',
        f'{row.activation_memory:.2f}',
        signed(row.activation_difference),
        notes.number(paper_memory.explain_activations(row)),
      )
      for row in rows
    ],
  )


def tables_2_and_3(halves: Sequence[Half]) -> str:
  """Tables 2 and 3, simulated."""
  parts = [_paragraph(_THROUGHPUT)]
  for half, rows in halves:
    parts += [
      f'## {half.table}: {half.name}',
      _setting(half),
      _throughputs(rows),
    ]
  parts += ['## What the steps are spent on', _paragraph(_SHARES)]
  parts += [_shares(halves)]
  parts += ['## Other assumptions', _paragraph(_ALTERNATIVES)]
  parts += [_alternatives(halves)]
  return _join(*parts)


def _setting(half: paper_facts.Throughputs) -> str:
  device = half.device
  return _paragraph(
    f'Simulated on: {device.name} ({device.flops / 1e12:g} TFLOP/s, '
    f'{device.memory_bandwidth / 1e9:g} GB/s of memory, '
    f'{device.link_bandwidth / 1e9:.1f} GB/s to a neighbour), {half.precision} '
    f'activations, mini-batches of {half.mini_batch}. Source: '
    f'{device.sources}.'
  )


def _throughputs(rows: Iterable[ThroughputRow]) -> str:
  header = ['M', 'K', 'published', 'simulated', 'difference', 'bound']
  header += ['note']
  notes = _Notes()
  return notes.below(
    header,
    [
      (
        str(row.num_micro_batches),
        str(row.num_cells),
        f'{row.published:.2f}',
        f'{row.stated:.2f}',
        signed(row.difference),
        f'{row.bound:.2f}',
        notes.number(paper_comparison.explain(row)),
      )
      for row in rows
    ],
  )


def _shares(halves: Iterable[Half]) -> str:
  names = paper_throughput.SHARES
  lines = []
  for half, rows in halves:
    for row in rows:
      shares = row.step.shares
      lines.append(
        (
          half.name,
          str(row.num_micro_batches),
          str(row.num_cells),
          *(f'{shares[name]:.1%}' for name in names),
          f'{1000 * row.step.time:,.0f} ms',
          str(row.step.fitting_examples),
          ' '.join(map(str, row.step.sizes)),
        )
      )
  header = ['model', 'M', 'K', *names, 'step', 'fit', 'layers a cell']
  return text_table.table(header, lines)


def _alternatives(halves: Iterable[Half]) -> str:
  lines = []
  for half, rows in halves:
    published = ' '.join(f'{row.published:.2f}' for row in rows)
    lines.append((half.name, 'published', published, ''))
    for other in paper_comparison.alternatives(half):
      values = ' '.join(f'{row.simulated[other.name]:.2f}' for row in rows)
      difference = paper_comparison.mean_difference(rows, other.name)
      lines.append((half.name, other.name, values, f'{difference:.0%}'))
  header = ('model', 'assumption', 'throughputs in the order above', 'mean')
  return text_table.table(header, lines)


class _Notes:
  """Explanations that stand below a table, each once and numbered."""

  def __init__(self) -> None:
    self._numbers: dict[str, str] = {}

  def number(self, text: str) -> str:
    """The number of an explanation, a new one if need be."""
    return self._numbers.setdefault(text, str(len(self._numbers) + 1))

  def below(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with the explanations below it."""
    lines = [
      _fill(f'{number}. {text}.', '   ')
      for text, number in self._numbers.items()
    ]
    return _join(text_table.table(header, rows), '\n'.join(lines))


def signed(share: float) -> str:
  """A difference in percent with one digit; '0.0%' has no sign."""
  text = f'{share:+.1%}'
  return text[1:] if text[1:] == '0.0%' else text


def report(
  memory: Sequence[MemoryRow],
  halves: Sequence[Half],
  command: str,
  picture: str = '',
) -> str:
  """All tables, with what is assumed.

  Args:
    memory: The rows of Table 1; none leaves it out.
    halves: Those of Tables 2 and 3; none leaves them out.
    command: The command that makes this.
    picture: The picture's file, as a page next to it links to it, if any.
  """
  parts = ['# The tables of the GPipe paper', _paragraph(_INTRODUCTION)]
  parts.append(f'Made by `{command}`.')
  if picture:
    parts.append(f'![Published and planned figures]({picture})')
  parts.append(summary(memory, halves))
  if memory:
    parts.append(table_1(memory))
  if halves:
    parts += ['# Throughput', tables_2_and_3(halves)]
  return _join(*parts)


def as_json(
  memory: Iterable[MemoryRow], halves: Iterable[Half]
) -> dict[str, Any]:
  """All figures, for json.dump; memory in bytes, times in seconds."""
  return {
    'table_1': [
      {
        'model': row.published.model,
        'unit': row.unit,
        'published': list(row.published.memories),
        'parameters': row.parameters,
        'state_bytes': row.state_bytes,
        'stash_bytes': row.stash_bytes,
        'activation_bytes': row.activation_bytes,
        'gradient_bytes': row.gradient_bytes,
      }
      for row in memory
    ],
    'throughput': [
      {
        'table': half.table,
        'model': half.model,
        'num_micro_batches': row.num_micro_batches,
        'num_cells': row.num_cells,
        'published': row.published,
        'simulated': dict(row.simulated),
        'step': dataclasses.asdict(row.step),
      }
      for half, rows in halves
      for row in rows
    ],
  }


def _paragraph(text: str) -> str:
  return _fill(' '.join(text.split()))


def _fill(text: str, indent: str = '') -> str:
  return textwrap.fill(
    text, 80, subsequent_indent=indent, break_on_hyphens=False
  )


def _join(*parts: str) -> str:
  return '\n\n'.join(parts)
