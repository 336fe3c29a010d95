# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How much the speed benchmark measures, and about how long that takes."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence

from tools.benchmark.cases import Case
from tools.benchmark.variants import Variant

# Importing TensorFlow and Lingvo, or starting PyTorch.
_START_SECONDS = 8.0
# A step takes as long as so many where freed blocks go back at once.
_SLOW_STEPS = 3


@dataclasses.dataclass(frozen=True)
class Plan:
  """How much is measured.

  Attributes:
    runs: How often all processes are started anew.
    rounds: How often the variants take turns, in each run.
    steps: How many steps each turn has.
    one_core_steps: How many steps on one core each turn has; 0 for none.
    memory: Whether each device's memory is measured.
    alive: Whether freed blocks go back at once in processes that are timed.
    torch_python: The interpreter that has torch.
  """

  runs: int = 1
  rounds: int = 3
  steps: int = 2
  one_core_steps: int = 1
  memory: bool = True
  alive: bool = False
  torch_python: str = sys.executable

  def __post_init__(self) -> None:
    for name, least in (
      ('runs', 1),
      ('rounds', 1),
      ('steps', 1),
      ('one_core_steps', 0),
    ):
      value = getattr(self, name)
      if value < least:
        raise ValueError(f'{name} is {value}; it must be {least} or more.')


def seconds(
  variants: Mapping[Case, Sequence[Variant]], plan: Plan, num_cores: int
) -> float:
  """About how long the benchmark takes, by the times that cases name.

  Args:
    variants: What is measured of each case.
    plan: How much is measured.
    num_cores: C.
  """
  total = _START_SECONDS * (1 + int(plan.memory))
  for case, of_case in variants.items():
    # To cut the layers each is traced, and perhaps timed.
    total += 2 * case.build_seconds * len({v.num_cells for v in of_case} - {1})
    for variant in of_case:
      step = case.step_seconds / min(variant.num_cells, num_cores)
      # Each turn, once more before all turns, and the first step.
      timed = case.build_seconds + step * (plan.rounds * plan.steps + 2)
      if variant.has_pipeline and plan.one_core_steps:
        alone = plan.rounds * plan.one_core_steps + 1
        timed += case.step_seconds * alone
      total += plan.runs * timed
      if plan.memory and variant.has_memory:
        # As many at a time as there are cores.
        slow = case.build_seconds + _SLOW_STEPS * case.step_seconds
        total += slow / num_cores
  return total
