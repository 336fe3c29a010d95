# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the speed benchmark found, as text, Markdown and JSON."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lingvo_gpipe.cutting import text_table
from tools.benchmark import speed_bound
from tools.benchmark.cases import Case
from tools.benchmark.measured import Cut, Measured
from tools.benchmark.variants import ENGINES, Variant, make_method

_HEADER = (
  *('variant', 'K', 'M', 'step s', 'spread', 'speed-up', '/lingvo'),
  *('efficiency', 'of bound', 'device MB', 'process MB', 'graph s'),
  'first step s',
)
_PLAIN = Variant(make_method('plain'), 1, 1)


@dataclasses.dataclass(frozen=True)
class Efficiency:
  """How well the cores are used, see `speed_bound`.

  Attributes:
    value: T1 / (min(K, C) TK).
    bound: What it could be at best.
  """

  value: float
  bound: float

  @property
  def of_bound(self) -> float:
    return self.value / self.bound


@dataclasses.dataclass(frozen=True)
class CaseReport:
  """One case's figures.

  Attributes:
    case: The case.
    measured: By variant.
    cuts: By K.
    num_cores: C.
  """

  case: Case
  measured: Mapping[Variant, Measured]
  cuts: Mapping[int, Cut]
  num_cores: int

  @property
  def run(self) -> dict[Variant, Measured]:
    """The variants that could be run."""
    return {v: own for v, own in self.measured.items() if not own.error}

  def speed_up(self, variant: Variant) -> float | None:
    """How much faster it is than one device without a pipeline."""
    plain = self.run.get(_PLAIN)
    return plain.step / self.run[variant].step if plain else None

  def to_lingvo(self, variant: Variant) -> float | None:
    """Its step time over that of Lingvo's engine for the same K and M."""
    base = self.run.get(
      dataclasses.replace(variant, method=make_method('lingvo'))
    )
    return self.run[variant].step / base.step if base else None

  def efficiency(self, variant: Variant) -> Efficiency | None:
    """Of a variant that was also run on one core."""
    own = self.run[variant]
    if own.one_core is None:
      return None
    usable = min(variant.num_cells, self.num_cores)
    return Efficiency(
      own.one_core / (usable * own.step),
      speed_bound.bound(
        self.cuts[variant.num_cells].of(variant.method.name).costs,
        variant.method.schedule,
        variant.method.recompute,
        variant.num_micro_batches,
        self.num_cores,
      ),
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
      if variant.method.engine != 'torch'
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


def _row(report: CaseReport, variant: Variant) -> list[str]:
  own = report.run[variant]
  efficiency = report.efficiency(variant)
  device, whole = own.device_peak, own.above_idle
  return [
    variant.method.name,
    str(variant.num_cells),
    str(variant.num_micro_batches),
    f'{own.step:.3f}',
    f'±{100 * own.spread:.1f}%',
    _number(report.speed_up(variant)),
    _number(report.to_lingvo(variant)),
    text_table.percent(efficiency.value) if efficiency else '',
    text_table.percent(efficiency.of_bound) if efficiency else '',
    text_table.megabytes(device) if device is not None else '',
    text_table.megabytes(whole),
    f'{own.graph:.2f}',
    f'{own.first_step:.2f}',
  ]


def _number(value: float | None) -> str:
  return '' if value is None else f'{value:.2f}'


def _notes(report: CaseReport) -> list[str]:
  notes = []
  for m, spread in report.loss_spreads().items():
    notes.append(
      f"the variants' losses of the same step agree to {spread:.0e} (M={m})"
    )
  for k, cut in report.cuts.items():
    if k > 1:
      notes.append(f'K={k}: {_cut_note(cut)}')
    for variant in report.run:
      other = cut.own.get(variant.method.name)
      if other is not None and variant.num_cells == k:
        notes.append(f'{variant.method.name} K={k}: {_cut_note(other)}')
  notes += sorted({own.version for own in report.run.values()} - {''})
  for variant, own in report.measured.items():
    if own.error:
      why = _telling_line(own.error)
      notes.append(f'{variant.name} could not be run: {why}')
    if own.memory_error:
      notes.append(
        f"the memory of {variant.name}'s devices could not be measured: "
        f'{_telling_line(own.memory_error)}'
      )
  return notes


def _cut_note(cut: Cut) -> str:
  ends = [0, *cut.splits, len(cut.layers)]
  total = sum(map(sum, cut.costs)) or 1.0
  cells = [
    f'{_span(cut.layers[start:end])} {sum(cost) / total:.0%}'
    for start, end, cost in zip(ends, ends[1:], cut.costs, strict=False)
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
  engines = {
    variant.method.engine: None
    for report in reports
    for variant in report.measured
  }
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
        'name': variant.method.name,
        **dataclasses.asdict(own),
        **(_derived(report, variant) if not own.error else {}),
      }
      for variant, own in report.measured.items()
    ],
  }


def _derived(report: CaseReport, variant: Variant) -> dict[str, Any]:
  own, efficiency = report.run[variant], report.efficiency(variant)
  return {
    'step_median': own.step,
    'spread': own.spread,
    'above_idle': own.above_idle,
    'speed_up': report.speed_up(variant),
    'to_lingvo': report.to_lingvo(variant),
    'efficiency': efficiency.value if efficiency else None,
    'bound': efficiency.bound if efficiency else None,
  }
