# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The ways to train a model that the benchmark compares."""

import dataclasses
import itertools
from collections.abc import Sequence

from lingvo_gpipe import schedules
from tools.benchmark.cases import Case

# What each engine is, for reports.
ENGINES = {
  'ours': 'lingvo_gpipe.PipeliningLayer, with the loss in its last cell',
  'lingvo': 'lingvo.core.gpipe.PipeliningLayer, which recomputes always',
  'naive': 'naive model parallelism: ours with M = 1, nothing recomputed',
  'plain': 'no pipeline, on one device with one thread',
  'plain-all_cores': 'no pipeline, with a thread on every core for each op',
  'torch': "PyTorch's torch.distributed.pipelining, one process a cell, each "
  'pinned to a core',
}
# The recompute policy of those that have no choice; the schedule is 'gpipe'.
_FIXED = {
  'lingvo': 'always',
  'naive': 'never',
  'plain': 'never',
  'plain-all_cores': 'never',
}
# Schedules and policies of the others. PyTorch recomputes always or never, here
# with a cell a device.
_CHOICES = {
  'ours': (schedules.SCHEDULE_NAMES, schedules.RECOMPUTE_POLICIES),
  'torch': (schedules.PLAIN_NAMES, ('always', 'never')),
}
_ONE_DEVICE = ('plain', 'plain-all_cores')


@dataclasses.dataclass(frozen=True)
class Method:
  """How to run a model, whatever K and M, by one of ENGINES."""

  engine: str
  schedule: str = 'gpipe'
  recompute: str = 'always'

  @property
  def name(self) -> str:
    """A name for flags and reports, such as 'ours-1f1b-never'."""
    if self.engine in _FIXED:
      return self.engine
    return f'{self.engine}-{self.schedule}-{self.recompute}'


@dataclasses.dataclass(frozen=True)
class Variant:
  """A method with K and M: 1 without a pipeline; the naive one has M = 1."""

  method: Method
  num_cells: int
  num_micro_batches: int

  @property
  def name(self) -> str:
    """The method's name, with K and M."""
    return f'{self.method.name} K={self.num_cells} M={self.num_micro_batches}'

  @property
  def cell_devices(self) -> tuple[int, ...]:
    """The device of each cell."""
    schedule = self.method.schedule
    return schedules.place(schedule, self.num_cells, self.num_devices)

  @property
  def num_devices(self) -> int:
    return self.num_cells // schedules.cells_per_device(self.method.schedule)

  @property
  def has_pipeline(self) -> bool:
    """Whether it has several cells or micro-batches to be efficient with."""
    return self.method.engine not in _ONE_DEVICE

  @property
  def has_memory(self) -> bool:
    """Whether its devices' memory is not that of another variant."""
    return self.method.engine != 'plain-all_cores'


METHODS = {
  method.name: method
  for method in (
    *(Method(engine, 'gpipe', policy) for engine, policy in _FIXED.items()),
    *(
      Method(engine, *how)
      for engine, choices in _CHOICES.items()
      for how in itertools.product(*choices)
    ),
  )
}


def expand(
  case: Case,
  methods: Sequence[Method],
  cells: Sequence[int] = (),
  micro_batches: Sequence[int] = (),
) -> list[Variant]:
  """Each method for each K and M, without repetitions.

  The case's own K and M stand in where none are given. 'torch' is left out
  where it has no such model.

  Raises:
    ValueError: K is less than 1, or an M does not divide the mini-batch.
  """
  cells = cells or [case.num_cells]
  micro_batches = micro_batches or [case.num_micro_batches]
  for num_micro_batches in micro_batches:
    case.check_micro_batches(num_micro_batches)
  if min(cells) < 1:
    raise ValueError(f'cells has {min(cells)}; it must be 1 or more.')
  found: dict[Variant, None] = {}
  for method, k, m in itertools.product(methods, cells, micro_batches):
    if method.engine == 'torch' and case.model != 'mlp':
      continue
    if method.engine in _ONE_DEVICE:
      k = m = 1
    elif method.engine == 'naive':
      m = 1
    found[Variant(method, k, m)] = None
  return list(found)


def variant_of(case: Case) -> Variant:
  """Our engine, with the case's own schedule, policy, K and M."""
  method = Method('ours', case.schedule, case.recompute)
  return Variant(method, case.num_cells, case.num_micro_batches)
