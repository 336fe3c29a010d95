# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The ways to train a model that the benchmark compares."""

import dataclasses
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
# They have schedules and recompute policies.
_CONFIGURABLE = ('ours', 'torch')
_ONE_DEVICE = ('plain', 'plain-all_cores')
_ONE_CORE = '-one_core'


@dataclasses.dataclass(frozen=True)
class Method:
  """How to run a model, whatever K and M.

  Attributes:
    engine: One of ENGINES.
    schedule: One of lingvo_gpipe.schedules.SCHEDULE_NAMES.
    recompute: A recompute policy.
  """

  engine: str
  schedule: str = 'gpipe'
  recompute: str = 'always'

  def __post_init__(self) -> None:
    if self.engine not in ENGINES:
      raise ValueError(
        f'engine is {self.engine!r}; it must be one of {", ".join(ENGINES)}.'
      )
    schedules.check_name(self.schedule)
    schedules.check_recompute(self.recompute)
    own = _own_method(self.engine)
    if own and (self.schedule, self.recompute) != own:
      raise ValueError(
        f'Engine {self.engine!r} has schedule {own[0]!r} and recompute '
        f'{own[1]!r} only.'
      )
    if self.engine == 'torch' and self.recompute == 'except_last':
      raise ValueError("Engine 'torch' recomputes 'always' or 'never' only.")

  @property
  def name(self) -> str:
    """A name for flags and reports, such as 'ours-1f1b-never'."""
    if self.engine not in _CONFIGURABLE:
      return self.engine
    return f'{self.engine}-{self.schedule}-{self.recompute}'


def _own_method(engine: str) -> tuple[str, str] | None:
  """Schedule and recompute policy of an engine that has no choice."""
  if engine in _CONFIGURABLE:
    return None
  return 'gpipe', 'always' if engine == 'lingvo' else 'never'


@dataclasses.dataclass(frozen=True)
class Variant:
  """A method with K and M.

  Attributes:
    method: How to run the model.
    num_cells: K; 1 without a pipeline.
    num_micro_batches: M; 1 without a pipeline, and for the naive one.
  """

  method: Method
  num_cells: int
  num_micro_batches: int

  @property
  def name(self) -> str:
    """The method's name, with K and M."""
    return f'{self.method.name} K={self.num_cells} M={self.num_micro_batches}'

  @property
  def has_pipeline(self) -> bool:
    """Whether it has several cells or micro-batches to be efficient with."""
    return self.method.engine not in _ONE_DEVICE

  @property
  def has_memory(self) -> bool:
    """Whether its devices' memory is not that of another variant."""
    return self.method.engine != 'plain-all_cores'


def make_method(engine: str) -> Method:
  """The only method of an engine that has one."""
  own = _own_method(engine)
  return Method(engine, *own) if own else Method(engine)


def methods_with(
  schedule_names: Sequence[str], policies: Sequence[str]
) -> list[Method]:
  """All engines; those with a choice for each schedule and policy.

  Raises:
    ValueError: There is no such schedule or policy.
  """
  methods = [make_method(e) for e in ENGINES if e not in _CONFIGURABLE]
  for engine in _CONFIGURABLE:
    for schedule in schedule_names:
      for policy in policies:
        if (engine, policy) != ('torch', 'except_last'):
          methods.append(Method(engine, schedule, policy))
  return methods


def named_methods(names: Sequence[str]) -> list[Method]:
  """The methods of these names; ValueError if there is none."""
  known = {
    method.name: method
    for method in methods_with(
      schedules.SCHEDULE_NAMES, schedules.RECOMPUTE_POLICIES
    )
  }
  for name in names:
    if name in known:
      continue
    if name.removesuffix(_ONE_CORE) in known:
      raise ValueError(
        f'variants has {name!r}, but every variant is now timed on one core '
        f'as well: use {name.removesuffix(_ONE_CORE)!r}.'
      )
    raise ValueError(
      f'There is no variant {name!r}; it must be one of {", ".join(known)}.'
    )
  return [known[name] for name in names]


def expand(
  case: Case,
  methods: Sequence[Method],
  cells: Sequence[int] = (),
  micro_batches: Sequence[int] = (),
) -> list[Variant]:
  """Each method for each K and M, without repetitions.

  Args:
    case: The case; its K and M stand in where none are given.
    methods: The methods. 'torch' is left out where it has no such model.
    cells: K.
    micro_batches: M.

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
  for method in methods:
    if method.engine == 'torch' and case.model != 'mlp':
      continue
    for k in cells:
      for m in micro_batches:
        if method.engine in _ONE_DEVICE:
          variant = Variant(method, 1, 1)
        else:
          variant = Variant(method, k, 1 if method.engine == 'naive' else m)
        found[variant] = None
  return list(found)


def variant_of(case: Case) -> Variant:
  """Our engine, with the case's own schedule, policy, K and M."""
  method = Method('ours', case.schedule, case.recompute)
  return Variant(method, case.num_cells, case.num_micro_batches)
