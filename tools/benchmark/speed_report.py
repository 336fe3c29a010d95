# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the speed benchmark found, as text, Markdown and JSON."""

import dataclasses
import itertools
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from lingvo_gpipe import schedules
from lingvo_gpipe.cutting import text_table
from lingvo_gpipe.schedules import Task, TaskKind
from tools.benchmark.cases import ENGINES, Case
from tools.benchmark.measured import Cut, Measured

_HEADER = (
  *('variant', 'K', 'M', 'step s', 'spread', 'speed-up', '/lingvo'),
  *('efficiency', 'of bound', 'device MB', 'process MB', 'graph s'),
  'first step s',
)


def bound(
  costs: Sequence[tuple[float, float]], variant: Case, num_cores: int
) -> float:
  """The highest efficiency that a variant's schedule allows.

  Fill and drain, unequal cells, and M too small keep it below 1 however good an
  engine is: it is the efficiency of the simulated schedule, each task lasting
  as long as `costs` say: for each cell, what forward and backward of a
  micro-batch take, without recomputation, in any unit. For equal cells and
  K <= C that is M / (M + K - 1).
  """
  schedule = schedules.make_schedule(
    variant.schedule, range(len(costs)), variant.num_micro_batches
  )
  again = schedules.recomputed(schedule, variant.recompute)

  def duration(task: Task) -> float:
    forward, backward = costs[task.cell]
    if task.kind == TaskKind.FORWARD:
      return forward
    recomputes = task.micro_batch in again[task.cell]
    return backward + (forward if recomputes else 0)

  timeline = schedules.simulate(schedule, duration)
  work = sum(timeline.device_busy)
  usable = min(len(costs), num_cores)
  # K threads on fewer cores: the cores' time is a limit too.
  least = max(timeline.step_time, work / usable)
  return float(work / (usable * least))


@dataclasses.dataclass(frozen=True)
class CaseReport:
  """One case's figures: by variant, and cuts by K."""

  case: Case
  measured: Mapping[Case, Measured]
  cuts: Mapping[int, Cut]
  num_cores: int

  @property
  def run(self) -> dict[Case, Measured]:
    """The variants that could be run."""
    return {v: own for v, own in self.measured.items() if not own.error}

  def cut(self, variant: Case) -> Cut:
    cut = self.cuts[variant.num_cells]
    return cut.own.get(variant.method, cut)

  def ratio(self, variant: Case, method: str) -> float | None:
    """Its step time over another method's, of the same K and M if it has them.

    None if that was not run.
    """
    how = variant.num_cells, variant.num_micro_batches
    for other, own in self.run.items():
      same = (other.num_cells, other.num_micro_batches) == how
      if other.method == method and (same or method == 'plain'):
        return self.run[variant].step / own.step
    return None

  def efficiency(self, variant: Case) -> tuple[float, float] | None:
    """How well a variant uses the cores, and how well it could at best.

    With T1 the time of a step on one core and TK that on K devices, each a
    thread of its own, it is T1 / (min(K, C) TK): 1 if no core ever waited or
    did other work than on one core. None if it was not run on one core.
    """
    own = self.run[variant]
    if not own.one_core_seconds:
      return None
    usable = min(variant.num_cells, self.num_cores)
    alone = statistics.median(own.one_core_seconds)
    return alone / (usable * own.step), bound(
      self.cut(variant).costs, variant, self.num_cores
    )

  def loss_spreads(self) -> dict[int, float]:
    """By M, how far the losses of its variants are apart, relatively.

    They are those of the last step that all have done. All start from the same
    weights and see the same data, but for PyTorch's, so more than rounding
    means that one of them computes something else. M matters to batch norm.
    """
    all_losses = [
      (variant.num_micro_batches, own.losses)
      for variant, own in self.run.items()
      if variant.engine != 'torch'
    ]
    last = min((len(losses) for _, losses in all_losses), default=0) - 1
    by_m: dict[int, list[float]] = {}
    for m, losses in all_losses:
      by_m.setdefault(m, []).append(losses[last])
    return {
      m: (max(found) - min(found)) / (max(map(abs, found)) or 1.0)
      for m, found in sorted(by_m.items())
      if len(found) > 1
    }


def as_text(report: CaseReport) -> str:
  """A table with a variant a row, and notes; also Markdown."""
  rows = [_row(report, variant) for variant in report.run]
  lines = [f'### {report.case}', '', text_table.table(_HEADER, rows), '']
  lines += [f'- {note}' for note in _notes(report)]
  return '\n'.join(lines)


def _row(report: CaseReport, variant: Case) -> list[str]:
  own, found = report.run[variant], _derived(report, variant)
  efficiency = ['', '']
  if found['efficiency'] is not None:
    values = found['efficiency'], found['efficiency'] / found['bound']
    efficiency = [f'{value:.0%}' for value in values]
  return [
    variant.method,
    str(variant.num_cells),
    str(variant.num_micro_batches),
    f'{own.step:.3f}',
    f'±{100 * own.spread:.1f}%',
    _number(found['speed_up']),
    _number(found['to_lingvo']),
    *efficiency,
    text_table.megabytes(max(own.device_bytes)) if own.device_bytes else '',
    text_table.megabytes(own.above_idle),
    f'{statistics.median(own.graph_seconds):.2f}',
    f'{statistics.median(own.first_step_seconds):.2f}',
  ]


def _number(value: float | None) -> str:
  return '' if value is None else f'{value:.2f}'


def _notes(report: CaseReport) -> list[str]:
  notes = [
    f"the variants' losses of the same step agree to {spread:.0e} (M={m})"
    for m, spread in report.loss_spreads().items()
  ]
  for k, cut in report.cuts.items():
    if k > 1:
      notes.append(f'K={k}: {_cut_note(cut)}')
    for variant in report.run:
      if variant.num_cells == k and report.cut(variant) is not cut:
        own = _cut_note(report.cut(variant))
        notes.append(f'{variant.method} K={k}: {own}')
  notes += sorted({own.version for own in report.run.values()} - {''})
  for variant, found in report.measured.items():
    for what, error in (
      (f'{variant.variant} could not be run', found.error),
      (
        f"the memory of {variant.variant}'s devices could not be measured",
        found.memory_error,
      ),
    ):
      if error:
        notes.append(f'{what}: {_telling_line(error)}')
  return notes


def _cut_note(cut: Cut) -> str:
  ends = itertools.pairwise([0, *cut.splits, len(cut.layers)])
  total = sum(map(sum, cut.costs)) or 1.0
  cells = [
    f'{_span(cut.layers[start:end])} {sum(cost) / total:.0%}'
    for (start, end), cost in zip(ends, cut.costs, strict=True)
  ]
  basis = 'FLOPs' if cut.basis == 'flops' else f'{cut.basis} time'
  return f'{", ".join(cells)} of the {basis}'


def _span(layers: Sequence[str]) -> str:
  return layers[0] if len(layers) == 1 else f'{layers[0]}..{layers[-1]}'


def _telling_line(text: str) -> str:
  """The line of an error that says most: the last one, or TensorFlow's first.

  TensorFlow lists the errors of a step, '(0) INTERNAL: ...', and ends with how
  many there were.
  """
  root = re.search(r'^ *\(0\) (.+)', text, re.MULTILINE)
  return root[1] if root else (text.strip().splitlines() or [''])[-1]


def legend(reports: Sequence[CaseReport]) -> str:
  """What the variants in the tables are, a line each; also Markdown."""
  engines = {variant.engine: 0 for one in reports for variant in one.measured}
  return '\n'.join(f'- {engine}: {ENGINES[engine]}' for engine in engines)


def as_json(report: CaseReport) -> dict[str, Any]:
  """All figures, each step's included, for json.dump."""
  return {
    'case': dataclasses.asdict(report.case),
    'cores': report.num_cores,
    'cuts': {k: dataclasses.asdict(cut) for k, cut in report.cuts.items()},
    'loss_spreads': report.loss_spreads(),
    'variants': [
      {
        **dataclasses.asdict(variant),
        'name': variant.method,
        **dataclasses.asdict(own),
        **(_derived(report, variant) if not own.error else {}),
      }
      for variant, own in report.measured.items()
    ],
  }


def _derived(report: CaseReport, variant: Case) -> dict[str, Any]:
  own = report.run[variant]
  efficiency, at_best = report.efficiency(variant) or (None, None)
  to_plain = report.ratio(variant, 'plain')
  return {
    'step_median': own.step,
    'spread': own.spread,
    'above_idle': own.above_idle,
    'speed_up': 1 / to_plain if to_plain else None,
    'to_lingvo': report.ratio(variant, 'lingvo'),
    'efficiency': efficiency,
    'bound': at_best,
  }
