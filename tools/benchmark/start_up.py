# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What it costs to start a pipeline, beside Lingvo's, and what graphs leave.

Times are seconds of CPU of a process that does nothing else: those of all
threads, so that other programs do not count.
"""

import dataclasses
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from tools.benchmark.cases import Case
from tools.benchmark.child_process import ChildProcess
from tools.benchmark.variants import Method, Variant, make_method

_WORKER = 'tools.benchmark.start_up_worker'

OURS = Method('ours', '1f1b', 'never')
_LINGVO = make_method('lingvo')
_PLAIN = make_method('plain')

# Of what a process keeps something, as reports call it.
KEPT = {
  'graph': 'graph built, run and dropped',
  'function': 'shape of a tf.function',
}
_SMALL = Case('small', 'mlp', 4, 16, 16, 2, 4)
_SMALL_VARIANTS = (Variant(OURS, 2, 4), Variant(_PLAIN, 1, 1))


@dataclasses.dataclass(frozen=True)
class Row:
  """One model with one K and M, and who runs it.

  Attributes:
    case: The model. It has next to no work, so that what is left is overhead.
    variants: Ways to run it; ours first.
  """

  case: Case
  variants: tuple[Variant, ...]


@dataclasses.dataclass(frozen=True)
class Start:
  """CPU seconds of a start.

  Attributes:
    building: From nothing to a session with initialised weights.
    first: The first step.
    step: A step after that.
  """

  building: float
  first: float
  step: float


@dataclasses.dataclass(frozen=True)
class Kept:
  """By how much a process grows with each graph or shape.

  Attributes:
    what: What is built.
    number: How many times; the last half of them count.
    pipeline: Bytes for each.
    plain: Bytes for each without a pipeline.
  """

  what: str
  number: int
  pipeline: float
  plain: float


def mlp_rows(
  pairs: Sequence[tuple[int, int]], num_layers: int, most_for_lingvo: int
) -> list[Row]:
  """Rows of an MLP of width 16.

  Args:
    pairs: K and M of each row.
    num_layers: Its layers; each K divides them.
    most_for_lingvo: With larger M Lingvo's engine is left out.
  """
  rows = []
  for num_cells, num_micro_batches in pairs:
    case = Case('mlp', 'mlp', num_layers, 16, 512, num_cells, num_micro_batches)
    case.check_micro_batches(num_micro_batches)
    variants = [Variant(OURS, num_cells, num_micro_batches)]
    if num_micro_batches <= most_for_lingvo:
      variants.append(Variant(_LINGVO, num_cells, num_micro_batches))
    rows.append(Row(case, tuple(variants)))
  return rows


def transformer_rows(
  num_cells: int, micro_batches: Sequence[int], num_layers: int
) -> list[Row]:
  """Rows of a Transformer of width 32; the last is without a pipeline."""
  case = Case(
    'transformer', 'transformer', num_layers, 32, 32, num_cells, example_size=8
  )
  variants = [Variant(OURS, num_cells, m) for m in micro_batches]
  for m in micro_batches:
    case.check_micro_batches(m)
  return [Row(case, (v,)) for v in (*variants, Variant(_PLAIN, 1, 1))]


def measure(
  rows: Sequence[Row], rounds: int, say: Callable[[str], None]
) -> dict[tuple[str, Variant], Start]:
  """Starts every variant in a process of its own, all in turn, several times.

  Args:
    rows: What to start.
    rounds: How often each; medians count.
    say: Called with what is being done.

  Returns:
    Medians, by (case name, variant).

  Raises:
    ChildError: A process failed.
  """
  found: dict[tuple[str, Variant], list[Start]] = {}
  for number in range(rounds):
    for row in rows:
      for variant in row.variants:
        say(f'round {number + 1}: {row.case.name}, {variant.name}')
        start = Start(**_ask('start', row.case, variant))
        found.setdefault((row.case.name, variant), []).append(start)
  return {key: _median(starts) for key, starts in found.items()}


def _median(starts: Sequence[Start]) -> Start:
  columns = zip(*map(dataclasses.astuple, starts), strict=True)
  return Start(*map(statistics.median, columns))


def measure_kept(what: str, number: int, say: Callable[[str], None]) -> Kept:
  """What a process keeps of each of many graphs, or shapes, of a small model.

  Args:
    what: A key of KEPT.
    number: How many, 2 or more.
    say: Called with what is being done.
  """
  say(f'{number} x {KEPT[what]}')
  return Kept(
    KEPT[what],
    number,
    *(float(_ask(what, _SMALL, v, number=number)) for v in _SMALL_VARIANTS),
  )


def measure_eager(say: Callable[[str], None]) -> tuple[float, float]:
  """CPU seconds of a step outside of any tf.function, once one has run.

  Returns:
    With and without a pipeline.
  """
  say('eager steps')
  ours, plain = (float(_ask('eager', _SMALL, v)) for v in _SMALL_VARIANTS)
  return ours, plain


def _ask(kind: str, case: Case, variant: Variant, **more: Any) -> Any:
  """What a new process finds."""
  argument = {
    'kind': kind,
    'case': dataclasses.asdict(case),
    'variant': dataclasses.asdict(variant),
    **more,
  }
  with ChildProcess(_WORKER, argument) as child:
    return child.receive()
