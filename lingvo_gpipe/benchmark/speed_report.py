# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the speed benchmark found, as text, Markdown and JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from lingvo_gpipe import text_table
from lingvo_gpipe.benchmark.cases import BASELINE, Case, Variant
from lingvo_gpipe.benchmark.speed import Measured


@dataclasses.dataclass(frozen=True)
class Efficiency:
  """How well K devices are used.

  Attributes:
    variant: The variant on all cores.
    value: T1 / (K TK): 1 if no core ever waited or did extra work.
    of_bound: The same, as a share of M / (M + K - 1).
  """

  variant: Variant
  value: float
  of_bound: float


@dataclasses.dataclass(frozen=True)
class CaseReport:
  """One case's figures.

  Attributes:
    case: The case.
    measured: By variant.
  """

  case: Case
  measured: Mapping[Variant, Measured]

  def ratios(self, variant: Variant) -> dict[str, float]:
    """A variant's figures over those of Lingvo's engine, if that was run."""
    base, own = self.measured.get(BASELINE), self.measured[variant]
    if base is None:
      return {}
    return {
      'step': own.step / base.step,
      'peak': own.peak / base.peak,
      'above_idle': own.above_idle / base.above_idle,
      'build': own.build / base.build,
    }

  def loss_spread(self) -> float:
    """How far the variants' last losses are apart, relative to the largest.

    All variants start from the same weights and see the same data, so more
    than rounding means that one of them computes something else.
    """
    losses = [own.losses[-1] for own in self.measured.values()]
    return (max(losses) - min(losses)) / max(map(abs, losses))

  def efficiencies(self) -> list[Efficiency]:
    """Of each variant that was run on one core as well."""
    found = []
    for alone, one in self.measured.items():
      variant = dataclasses.replace(alone, one_core=False)
      if not alone.one_core or variant not in self.measured:
        continue
      several = self.measured[variant].step
      value = one.step / (self.case.num_cells * several)
      found.append(
        Efficiency(variant, value, value / self.case.efficiency_bound)
      )
    return found


def as_text(report: CaseReport) -> str:
  """A table a variant a row, and a line for each efficiency; also Markdown."""
  header = [
    *('variant', 'step s', '/lingvo', 'core s', 'build s', '/lingvo'),
    *('peak MB', '/lingvo', 'above idle MB', '/lingvo', 'ops'),
  ]
  rows = []
  for variant, own in report.measured.items():
    ratios = report.ratios(variant)

    def ratio(name: str, ratios: dict[str, float] = ratios) -> str:
      return f'{ratios[name]:.2f}' if ratios else ''

    rows.append(
      [
        variant.name,
        *(f'{own.step:.3f}', ratio('step'), f'{own.cpu:.3f}'),
        *(f'{own.build:.2f}', ratio('build')),
        *(text_table.megabytes(own.peak), ratio('peak')),
        *(text_table.megabytes(own.above_idle), ratio('above_idle')),
        str(own.ops),
      ]
    )
  lines = [f'### {report.case}', '', text_table.table(header, rows), '']
  lines.append(
    "- the variants' losses after the last step agree to "
    f'{report.loss_spread():.0e}'
  )
  for found in report.efficiencies():
    lines.append(
      f'- {found.variant.name}: efficiency against one core '
      f'{text_table.percent(found.value)}, '
      f'{text_table.percent(found.of_bound)} of the '
      f'bound {report.case.efficiency_bound:.3f}'
    )
  return '\n'.join(lines)


def as_json(report: CaseReport) -> dict[str, Any]:
  """All figures, each step's included, for json.dump."""
  return {
    'case': dataclasses.asdict(report.case),
    'loss_spread': report.loss_spread(),
    'efficiency_bound': report.case.efficiency_bound,
    'variants': {
      variant.name: {
        **dataclasses.asdict(own),
        'step_median': own.step,
        'build_median': own.build,
        'ratios': report.ratios(variant),
      }
      for variant, own in report.measured.items()
    },
    'efficiencies': {
      found.variant.name: {'value': found.value, 'of_bound': found.of_bound}
      for found in report.efficiencies()
    },
  }
