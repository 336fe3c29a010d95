# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a model's pipelines beside its plain layers, and reports on that.

```
  plain layers  <-->  K = 1, M = 1
                <-->  K,     M = 1
                <-->  K = 1, M
                <-->  K,     M
```

Where cells have batch norm and only M > 1 differs, both run once more with its
statistics fixed: what differs then has another reason.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lingvo_gpipe.checking import comparison, one_batch
from lingvo_gpipe.checking.comparison import Way
from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.pipelining_layer import PipeliningLayer
from lingvo_gpipe.sequential_layer import GPipeSequentialLayer
from lingvo_gpipe.training import model_pipelines

_ONE_MICRO_BATCH = {'num_micro_batches': 1, 'micro_batch_size': None}
_MAX_NAMES = 5


def check(
  params: Any, num_devices: int, tolerance: float, say: Callable[[str], None]
) -> 'Report':
  params = params.Copy()
  set_aside = _turn_dropout_off(params)
  say('plain layers')
  (plain, again), given = one_batch.run(
    params, num_devices, plain=True, steps=(0, 1)
  )

  def run(params: Any, devices: int) -> one_batch.Result:
    [result], _ = one_batch.run(params, devices, given)
    say(f'K = {result.num_cells}, M = {result.num_micro_batches}')
    return result

  own = run(params, num_devices)
  results = [own]
  if own.num_micro_batches > 1:
    results.append(run(_with(params, **_ONE_MICRO_BATCH), num_devices))
  one_cell = _with_one_cell(params)
  if own.num_cells > 1 and one_cell:
    results.append(run(one_cell, 1))
    if own.num_micro_batches > 1:
      results.append(run(_with(one_cell, **_ONE_MICRO_BATCH), 1))
  results.sort(key=lambda r: (r.num_micro_batches, r.num_cells))
  ways = [comparison.compare(plain, result) for result in results]
  fixed = None
  if plain.batch_norms and all(
    way.largest <= tolerance for way in ways if way.num_micro_batches == 1
  ):
    fixed = _with_fixed_statistics(params, num_devices, given)
  return Report(
    ways=ways,
    fixed_statistics=fixed,
    batch_norms=plain.batch_norms,
    set_aside=set_aside,
    changes_by_itself=comparison.compare(plain, again).largest,
    faults=list(comparison.explain(plain.losses, tolerance)),
    tolerance=tolerance,
  )


def _turn_dropout_off(params: Any) -> dict[str, int]:
  """Returns {Param: how many were changed}."""
  changed: collections.Counter[str] = collections.Counter()
  for p in model_pipelines.walk(params):
    for name, value in list(p.IterParams()):
      if type(value) not in (int, float):
        continue
      off = 1.0 if name.endswith('keep_prob') else 0.0
      if value != off and ('dropout' in name or name.endswith('keep_prob')):
        p.Set(**{name: off})
        changed[name] += 1
  return dict(changed)


def _with(params: Any, **values: Any) -> Any:
  params = params.Copy()
  for p in model_pipelines.walk(params):
    for name, value in values.items():
      if name in p:
        p.Set(**{name: value})
  return params


def _with_one_cell(params: Any) -> Any:
  """The same with K = 1; None if a pipeline does not cut its layers itself."""
  params = params.Copy()
  for p in model_pipelines.find_layers(params, PipeliningLayer):
    if not issubclass(p.cls, GPipeSequentialLayer):
      return None
    p.Set(num_partitions=1, splits=[], device_memory='')
  return params


def _with_fixed_statistics(
  params: Any, num_devices: int, given: one_batch.Given
) -> Way | None:
  params = _with(params, freeze_bn_stats=True)
  [plain], _ = one_batch.run(params, num_devices, given, plain=True)
  [result], _ = one_batch.run(params, num_devices, given)
  return None if result.batch_norms else comparison.compare(plain, result)


@dataclasses.dataclass(frozen=True)
class Report:
  """What a check found.

  Attributes:
    fixed_statistics: The model's own K and M with the statistics of batch norm
      fixed; None if that cannot be, or says nothing.
    changes_by_itself: By how much the plain layers differ from one step to the
      next, with the same mini-batch and weights.
  """

  ways: Sequence[Way]  # By ascending M, then K.
  fixed_statistics: Way | None
  batch_norms: Sequence[str]  # Names of layers that have it.
  set_aside: dict[str, int]  # Params changed for the check: how many.
  changes_by_itself: float
  faults: Sequence[str]  # Of losses and metrics.
  tolerance: float

  @property
  def differs(self) -> bool:
    return any(way.largest > self.tolerance for way in self.ways)

  @property
  def same(self) -> bool:
    """Whether nothing differs but what batch norm must."""
    fixed = self.fixed_statistics
    only_batch_norm = fixed is not None and fixed.largest <= self.tolerance
    return not self.faults and (only_batch_norm or not self.differs)

  def to_text(self) -> str:
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
    why = [*self.faults, *(self._why() if self.differs else [])]
    if self.differs and not why:
      why.append(
        'not known. If only M > 1 differs, look for a layer whose result for '
        'an example depends on the other examples of the batch'
      )
    if why:
      lines += ['', 'Why:', *(f'- {line}.' for line in why)]
    if self.set_aside:
      params = ', '.join(f'{n} ({c})' for n, c in self.set_aside.items())
      lines += ['', 'Note:', f'- dropout was off, by the Params {params}.']
    return '\n'.join(lines)

  def _table(self) -> str:
    """A row for each layer or metric that differs, a column for a way."""
    rows = [
      [name, *(self._amount(way.differences[name]) for way in self.ways)]
      for name in self.ways[0].differences
      if any(way.differences[name] > self.tolerance for way in self.ways)
    ]
    return text_table.table(['', *(way.name for way in self.ways)], rows)

  def _amount(self, difference: float) -> str:
    if difference <= self.tolerance:
      return 'same'
    if math.isinf(difference):
      return 'not finite'
    percent = 100 * difference
    return f'{percent:.0f}%' if percent >= 10 else f'{percent:.2g}%'

  def _why(self) -> Iterator[str]:
    lost = sorted({name for way in self.ways for name in way.lost})
    if lost:
      yield (
        f'{_listed(lost)}: no gradient in the pipeline, where the plain layers '
        'have one'
      )
    if math.isinf(self.changes_by_itself):
      yield 'the plain layers alone give values that are not finite'
    elif self.changes_by_itself > self.tolerance:
      yield (
        'random ops: even the plain layers differ by '
        f'{self._amount(self.changes_by_itself)} from one step to the next. '
        'Turn them off for the check (--model_params_override)'
      )
    if self.batch_norms:
      yield (
        f'batch norm (in {_listed(self.batch_norms)}) normalises each '
        f'micro-batch by itself, so with M > 1 it must differ{self._rest()}'
      )

  def _rest(self) -> str:
    fixed = self.fixed_statistics
    if fixed is None:
      return '; whether anything else differs is not known'
    if fixed.largest <= self.tolerance:
      return (
        '. It is all that differs: with its statistics fixed, '
        f'{fixed.name} agrees to {fixed.largest:.0e}'
      )
    name = max(fixed.differences, key=lambda name: fixed.differences[name])
    return (
      '. It is not the only reason: with its statistics fixed, '
      f'{name} still differs by {self._amount(fixed.largest)}'
    )


def _listed(names: Sequence[str]) -> str:
  more = len(names) - _MAX_NAMES
  shown = ', '.join(names[:_MAX_NAMES])
  return f'{shown} and {more} more' if more > 0 else shown
