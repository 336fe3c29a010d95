# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a check of a model found, as data and as text."""

import dataclasses
import math
from collections.abc import Sequence

from lingvo_gpipe.checking.comparison import Way
from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.training import pipeline_report

_MAX_ROWS = 20


@dataclasses.dataclass(frozen=True)
class Report:
  """What a check found.

  Attributes:
    fixed_statistics: The model's own K and M once more, with the statistics of
      batch norm fixed, in plain layers too; None if that was not needed.
    set_aside: Params that were changed for the check, {name: how many}.
    changes_by_itself: By how much the plain layers differ from themselves at
      another step with the same mini-batch and weights.
    constant_weights: The losses' weights that are a number.
  """

  ways: Sequence[Way]
  fixed_statistics: Way | None
  batch_norms: Sequence[str]
  set_aside: dict[str, int]
  changes_by_itself: float
  faults: Sequence[str]
  constant_weights: Sequence[float]
  tolerance: float

  @property
  def differs(self) -> bool:
    """Whether any way differs from the plain layers."""
    return any(self._differs(way) for way in self.ways)

  @property
  def same(self) -> bool:
    """Whether nothing differs but what batch norm must."""
    if self.faults:
      return False
    fixed = self.fixed_statistics
    only_batch_norm = fixed is not None and not self._differs(fixed)
    return only_batch_norm or not self.differs

  def _differs(self, way: Way) -> bool:
    return way.largest > self.tolerance

  def to_text(self) -> str:
    """The report, in lines of text."""
    lines = []
    if self.differs:
      lines += ['Differences from the plain layers:', '', self._table()]
    else:
      largest = max(way.largest for way in self.ways)
      ways = ', '.join(f'({way.name})' for way in self.ways)
      names = self.ways[0].differences
      num_metrics = sum(name.startswith('metric ') for name in names)
      lines.append(
        f'No difference from the plain layers in {ways}: gradients of all '
        f'layers and {num_metrics} metrics agree to {largest:.0e}.'
      )
    why = self._why()
    if why:
      lines += ['', 'Why:', *(f'- {line}.' for line in why)]
    notes = self._notes()
    if notes:
      lines += ['', 'Note:', *(f'- {line}.' for line in notes)]
    return '\n'.join(lines)

  def _table(self) -> str:
    """The differences: a row for each layer or metric, a column for a way."""
    names = [
      name
      for name in self.ways[0].differences
      if any(way.differences[name] > self.tolerance for way in self.ways)
    ]
    rows = [
      [name, *(self._amount(way.differences[name]) for way in self.ways)]
      for name in names[:_MAX_ROWS]
    ]
    text = text_table.table(['', *(way.name for way in self.ways)], rows)
    if len(names) > _MAX_ROWS:
      text += f'\n... and {len(names) - _MAX_ROWS} more'
    return text

  def _amount(self, difference: float) -> str:
    if difference <= self.tolerance:
      return 'same'
    if math.isinf(difference):
      return 'not finite'
    percent = 100 * difference
    return f'{percent:.0f}%' if percent >= 10 else f'{percent:.2g}%'

  def _why(self) -> list[str]:
    """The reasons that are known, or that none is."""
    lines = list(self.faults)
    if not self.differs:
      return lines
    lost = sorted({name for way in self.ways for name in way.lost})
    if lost:
      lines.append(
        f'{", ".join(lost[:5])}{" ..." if len(lost) > 5 else ""}: no gradient '
        'in the pipeline, where the plain layers have one'
      )
    if math.isinf(self.changes_by_itself):
      lines.append('the plain layers alone give values that are not finite')
    elif self.changes_by_itself > self.tolerance:
      lines.append(
        'the plain layers themselves differ by '
        f'{self._amount(self.changes_by_itself)} from one step to the next: '
        'they have random ops, so no comparison is possible. Turn them off for '
        'the check (--model_params_override)'
      )
    if self.batch_norms:
      lines.append(self._batch_norm())
    if not lines:
      lines.append(
        'not known. If only M > 1 differs, look for a layer whose result for '
        'an example depends on the other examples of the batch'
      )
    return lines

  def _batch_norm(self) -> str:
    shown = ', '.join(self.batch_norms[:5])
    more = len(self.batch_norms) - 5
    text = (
      f'batch norm (in {shown}{f" and {more} more" if more > 0 else ""}) '
      'normalises each micro-batch by itself, so with M > 1 it must differ'
    )
    fixed = self.fixed_statistics
    if fixed is None:
      return f'{text}; whether anything else differs is not known'
    if self._differs(fixed):
      largest = max(fixed.differences, key=lambda name: fixed.differences[name])
      return (
        f'{text}. It is not the only reason: with its statistics fixed, '
        f'{largest} still differs by {self._amount(fixed.largest)}'
      )
    return (
      f'{text}. It is all that differs: with its statistics fixed, '
      f'{fixed.name} agrees to {fixed.largest:.0e}'
    )

  def _notes(self) -> list[str]:
    lines = []
    if self.set_aside:
      names = ', '.join(f'{n} ({c})' for n, c in self.set_aside.items())
      lines.append(f'dropout was off, by the Params {names}')
    for weight in self.constant_weights:
      lines.append(pipeline_report.constant_weight(weight))
    return lines
