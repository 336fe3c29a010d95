# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the speed benchmark compares: models, and ways to run them."""

import dataclasses
from typing import TypeVar

_T = TypeVar('_T')

ENGINES = ('lingvo', 'ours')


@dataclasses.dataclass(frozen=True)
class Case:
  """A residual MLP, cut into cells of equally many layers.

  Attributes:
    name: For reports.
    num_layers: L; each layer is x + W2 relu(W1 x + b1) + b2.
    dim: D, the width of x; the hidden width is 4 D.
    batch: Examples in a mini-batch.
    num_cells: K, each on a CPU device of its own with one thread.
    num_micro_batches: M.
  """

  name: str
  num_layers: int
  dim: int
  batch: int
  num_cells: int
  num_micro_batches: int

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name != 'name' and value < 1:
        raise ValueError(f'{field.name} is {value}; it must be 1 or more.')
    if self.num_layers % self.num_cells:
      raise ValueError(
        f'num_layers is {self.num_layers}, which num_cells, {self.num_cells}, '
        'does not divide: the bound on efficiency is for equal cells.'
      )

  @property
  def efficiency_bound(self) -> float:
    """M / (M + K - 1): what fill and drain leave of K devices."""
    return self.num_micro_batches / (
      self.num_micro_batches + self.num_cells - 1
    )

  def __str__(self) -> str:
    return (
      f'{self.name}: residual MLP, L={self.num_layers} D={self.dim} '
      f'batch={self.batch} K={self.num_cells} M={self.num_micro_batches}'
    )


@dataclasses.dataclass(frozen=True)
class Variant:
  """A way to run a case.

  Attributes:
    engine: 'lingvo' for lingvo.core.gpipe.PipeliningLayer, 'ours' for
      lingvo_gpipe's.
    schedule: One of lingvo_gpipe.schedules.SCHEDULE_NAMES. All but gpipe have
      the loss inside the pipeline.
    recompute: A recompute policy. Lingvo's engine knows 'always' only.
    one_core: Whether the process is bound to one core.
  """

  engine: str
  schedule: str = 'gpipe'
  recompute: str = 'always'
  one_core: bool = False

  def __post_init__(self) -> None:
    if self.engine not in ENGINES:
      raise ValueError(
        f'engine is {self.engine!r}; it must be one of {ENGINES}.'
      )
    own = (self.schedule, self.recompute) != ('gpipe', 'always')
    if self.engine == 'lingvo' and own:
      raise ValueError(
        "Lingvo's engine has schedule 'gpipe' and recompute 'always' only."
      )

  @property
  def name(self) -> str:
    """A name for reports, such as 'ours-1f1b-never'."""
    parts = [self.engine]
    if self.engine == 'ours':
      parts += [self.schedule, self.recompute]
    if self.one_core:
      parts.append('one_core')
    return '-'.join(parts)

  @property
  def loss_inside(self) -> bool:
    return self.schedule != 'gpipe'


# The first has few examples a micro-batch and large weights, the second the
# reverse.
CASES = (
  Case('wide', 8, 512, 512, 2, 8),
  Case('long', 16, 256, 4096, 2, 16),
)
TINY_CASE = Case('tiny', 4, 16, 16, 2, 4)

BASELINE = Variant('lingvo')
VARIANTS = (
  BASELINE,
  Variant('ours'),
  Variant('ours', recompute='except_last'),
  Variant('ours', recompute='never'),
  Variant('ours', '1f1b'),
  Variant('ours', '1f1b', 'except_last'),
  Variant('ours', '1f1b', 'never'),
  Variant('ours', one_core=True),
  Variant('ours', recompute='never', one_core=True),
  Variant('ours', '1f1b', one_core=True),
)


def named_cases(names: list[str]) -> list[Case]:
  """The cases of these names; ValueError if there is none."""
  return _named(names, {c.name: c for c in (*CASES, TINY_CASE)}, 'case')


def named_variants(names: list[str]) -> list[Variant]:
  """The variants of these names; ValueError if there is none."""
  return _named(names, {v.name: v for v in VARIANTS}, 'variant')


def _named(names: list[str], known: dict[str, _T], what: str) -> list[_T]:
  for name in names:
    if name not in known:
      raise ValueError(
        f'There is no {what} {name!r}; it must be one of {", ".join(known)}.'
      )
  return [known[name] for name in names]
