# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Searches the largest models that train within a budget of memory a worker."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from lingvo_gpipe.cost_model import LayerCost
from lingvo_gpipe.partitioner import Partition
from tools.benchmark import least_memory, process_memory, size_search
from tools.benchmark.child_process import ChildProcess
from tools.benchmark.size_search import Found, Trial
from tools.benchmark.training_case import TrainingCase

_SERVER = 'tools.benchmark.training_server'
# Before anything is measured: peaks are a little above the guess.
_FACTOR = 1.05
# What a worker takes without a model, until it is measured.
_IDLE_BYTES = 400 * 2**20


class MeasurementError(RuntimeError):
  """A training step failed for another reason than the budget."""


@dataclasses.dataclass(frozen=True)
class Setting:
  """A column of the table.

  Attributes:
    name: Its title.
    num_workers: K.
    pipelined: Whether there are micro-batches and recomputation.
  """

  name: str
  num_workers: int
  pipelined: bool = True


def settings(num_workers: Sequence[int]) -> list[Setting]:
  """Naive-1, and Pipeline-K for each number of workers."""
  return [
    Setting('Naive-1', 1, pipelined=False),
    *(Setting(f'Pipeline-{k}', k) for k in num_workers),
  ]


@dataclasses.dataclass(frozen=True)
class Family:
  """Models of one kind, and what they are trained on.

  Attributes:
    base: The case of the Naive-1 setting but for the sizes searched; its
      `length` (AmoebaNet: any) and `dim` stand where they are not searched.
    num_micro_batches: M of the pipelined settings.
    lengths: AmoebaNet: the values of L from which each column's best is taken.
    sizes: What is searched, ascending: D of an AmoebaNet, L of a Transformer.
  """

  base: TrainingCase
  num_micro_batches: int
  lengths: tuple[int, ...]
  sizes: tuple[int, ...]

  def case(self, setting: Setting, length: int, size: int) -> TrainingCase:
    """The case of one size; `length` is not used for Transformers."""
    sizes = (
      {'length': length, 'dim': size}
      if self.base.family == 'amoebanet'
      else {'length': size}
    )
    pipelined = (
      {
        'num_micro_batches': self.num_micro_batches,
        'recompute': 'always',
        'num_workers': setting.num_workers,
      }
      if setting.pipelined
      else {}
    )
    return dataclasses.replace(self.base, **sizes, **pipelined)


@dataclasses.dataclass(frozen=True)
class Largest:
  """What a column of the table says.

  Attributes:
    setting: Which column.
    case: The largest case that trained; None if none did.
    measured: What `training_step.run` returned for it, bytes and seconds; and
      `predicted`, what the memory model says each worker needs above its idle
      level, and `cells`, the layers of each.
    too_large: The smallest case that was measured not to train; None if the
      search ended because the best one fills the budget.
    num_trials: How many cases were measured.
  """

  setting: Setting
  case: TrainingCase | None
  measured: dict[str, Any] | None
  too_large: TrainingCase | None
  num_trials: int


Ask = Callable[..., dict[str, Any]]


def server() -> ChildProcess:
  """The process to ask; use it as a context manager."""
  return ChildProcess(_SERVER, {}, process_memory.ALIVE_ONLY_ENV)


@dataclasses.dataclass(frozen=True)
class Search:
  """Finds the largest model of each setting.

  Attributes:
    ask: Asks a training_server.
    budget: Bytes that no worker's peak may exceed, idle level included.
    timeout: Seconds that one measurement may take.
    filled: The share of the budget that ends a search.
    report: Called with a line for each measurement.
  """

  ask: Ask
  budget: int
  timeout: float = 600.0
  filled: float = 0.95
  report: Callable[[str], None] = lambda line: None

  def family(self, family: Family, columns: Sequence[Setting]) -> list[Largest]:
    """Searches each setting in turn.

    Raises:
      MeasurementError: A training step failed.
    """
    reference = self._reference(family)
    factors = {False: _FACTOR, True: _FACTOR}
    idle = _IDLE_BYTES
    result = []
    for setting in columns:
      length, cut = self._best_length(family, setting, reference)
      found = size_search.largest(
        family.sizes,
        self.budget,
        lambda size, cut=cut, idle=idle: idle + max(cut(size).device_memory),
        lambda size, s=setting, n=length, cut=cut: self._measure(
          family.case(s, n, size), cut(size).splits
        ),
        factor=factors[setting.pipelined],
        filled=self.filled,
      )
      factors[setting.pipelined] = found.factor
      largest = _largest(family, setting, length, found)
      if found.best is not None:
        idle = max(found.best.result['idle'])
        self._predict(largest, cut(found.best.size).splits)
      result.append(largest)
    return result

  def _predict(self, largest: Largest, splits: Sequence[int]) -> None:
    """Adds what the memory model says."""
    reply = self._ask('predict', largest.case, splits=list(splits))
    largest.measured.update(reply['result'])

  def _reference(self, family: Family) -> least_memory.Reference:
    """Costs of the smallest case; AmoebaNet's at a middle width."""
    middle = family.sizes[len(family.sizes) // 2]
    case = least_memory.reference_case(
      dataclasses.replace(
        family.case(Setting('', 1), family.lengths[0], middle), num_workers=1
      )
    )
    reply = self._ask('costs', case)['result']
    return least_memory.Reference(
      case,
      tuple(LayerCost(**layer) for layer in reply['layers']),
      reply['input_bytes'],
    )

  def _best_length(
    self,
    family: Family,
    setting: Setting,
    reference: least_memory.Reference,
  ) -> tuple[int, Callable[[int], Partition]]:
    """The L that promises most parameters, and its cut by size."""
    best = None
    for length in family.lengths:

      @functools.cache
      def cut(size: int, length: int = length) -> Partition:
        return least_memory.guess_cut(
          reference, family.case(setting, length, size)
        )

      position = size_search.largest_guess(
        family.sizes,
        self.budget / _FACTOR - _IDLE_BYTES,
        lambda size, cut=cut: max(cut(size).device_memory),
      )
      layers = cut(family.sizes[position]).layers
      parameters = sum(layer.parameters for layer in layers)
      if best is None or parameters > best[0]:
        best = parameters, length, cut
    return best[1], best[2]

  def _measure(
    self, case: TrainingCase, splits: Sequence[int]
  ) -> Trial[dict[str, Any]]:
    reply = self._ask('measure', case, splits=list(splits), budget=self.budget)
    size = case.dim if case.family == 'amoebanet' else case.length
    what = f'{case.model}, {case.num_workers} worker(s)'
    result = reply.get('result')
    if result is None:
      self.report(f'{what}: stopped at the budget.')
      return Trial(size, None, False, {})
    peak = max(result['peaks'])
    self.report(
      f'{what}: peak {peak / 2**20:.0f} MiB, built in '
      f'{result["build_seconds"]:.0f} s, step {result["step_seconds"]:.1f} s.'
    )
    return Trial(size, peak, peak <= self.budget, result)

  def _ask(
    self, do: str, case: TrainingCase, **arguments: Any
  ) -> dict[str, Any]:
    """The server's reply, if it is no error."""
    reply = self.ask(
      do=do, case=dataclasses.asdict(case), timeout=self.timeout, **arguments
    )
    if 'error' in reply:
      raise MeasurementError(f'{case.model}: {reply["error"]}')
    return reply


def _largest(
  family: Family, setting: Setting, length: int, found: Found[dict[str, Any]]
) -> Largest:
  def case(trial: Trial[dict[str, Any]] | None) -> TrainingCase | None:
    return trial and family.case(setting, length, trial.size)

  return Largest(
    setting,
    case(found.best),
    found.best and found.best.result,
    case(found.too_large),
    len(found.trials),
  )
