# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The largest models that trained, as text, Markdown and JSON."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from lingvo_gpipe import text_table
from tools.benchmark.largest_models import Largest
from tools.benchmark.training_case import TrainingCase

# Weights and two slots of float32.
_PARAMETER_BYTES = 12
_GIB = 2**30


def as_text(columns: Sequence[Largest]) -> str:
  """A table like the paper's Table 1: a setting a column; also Markdown."""

  def each(text: Callable[[dict[str, Any]], str]) -> list[str]:
    return ['-' if c.measured is None else text(c.measured) for c in columns]

  rows = [
    ('model', [_model(c.case) for c in columns]),
    ('parameters', each(lambda m: f'{m["parameters"] / 1e6:.1f}M')),
    ('times Naive-1', _ratios(columns)),
    (
      'parameter memory, GiB',
      each(lambda m: _gib(m['parameters'] * _PARAMETER_BYTES)),
    ),
    ('measured peaks, GiB', each(lambda m: ' '.join(map(_gib, m['peaks'])))),
    ('fullest worker, GiB', each(lambda m: _gib(max(m['peaks'])))),
    ('by the memory model', each(lambda m: _gib(sum(_fullest(m))))),
    ('of it idle', each(lambda m: _gib(_fullest(m)[0]))),
    ('layers of each', each(lambda m: ' '.join(map(str, m['cells'])))),
    ('step, s', each(lambda m: f'{m["step_seconds"]:.1f}')),
    ('too large', [_model(c.too_large) for c in columns]),
    ('measurements', [str(c.num_trials) for c in columns]),
  ]
  return text_table.table(
    ('', *(c.setting.name for c in columns)),
    [(title, *cells) for title, cells in rows],
  )


def as_json(columns: Sequence[Largest]) -> list[dict[str, Any]]:
  """All figures, for json.dump; bytes and seconds."""
  return [dataclasses.asdict(column) for column in columns]


def _model(case: TrainingCase | None) -> str:
  return '-' if case is None else case.model


def _ratios(columns: Sequence[Largest]) -> list[str]:
  """Each column's parameters over those of the first."""
  first = columns[0].measured
  if first is None:
    return ['-'] * len(columns)
  return [
    f'{c.measured["parameters"] / first["parameters"]:.2f}'
    if c.measured
    else '-'
    for c in columns
  ]


def _fullest(measured: dict[str, Any]) -> tuple[int, int]:
  """Idle level and prediction of the worker with the largest peak."""
  peaks = measured['peaks']
  worker = peaks.index(max(peaks))
  return measured['idle'][worker], measured['predicted'][worker]


def _gib(value: float) -> str:
  return f'{value / _GIB:.2f}'
