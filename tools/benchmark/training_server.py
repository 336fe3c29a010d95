# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A process that measures training steps, each in processes of its own.

It imports everything once and forks for each command; commands come as lines
of JSON, see `child_process`:

  {"do": "measure", "case": ..., "splits": ..., "budget": bytes,
   "timeout": seconds, "timed_steps": 0, "pinned": false,
   "warm_up": false}
  {"do": "measured_costs", "case": ..., "core": 0, "timeout": seconds}
  {"do": "link_speed", "case": ..., "timeout": seconds}
  {"do": "update_seconds", "case": ..., "splits": ..., "timed_steps": 10,
   "timeout": seconds}
  {"do": "costs", "case": ..., "timeout": seconds}
  {"do": "predict", "case": ..., "splits": ..., "timeout": seconds}
"""

import dataclasses
import json
import os
import sys
from typing import Any

from tools.benchmark import watched_fork
from tools.benchmark.training_case import TrainingCase


def _measure(
  case: TrainingCase,
  splits: list[int],
  budget: int,
  timeout: float,
  timed_steps: int = 0,
  pinned: bool = False,
  warm_up: bool = False,
) -> dict[str, Any]:
  from tools.benchmark import training_step

  return watched_fork.call(
    lambda announce: training_step.run(
      case,
      splits,
      announce,
      timed_steps=timed_steps,
      pinned=pinned,
      warm_up=warm_up,
    ),
    budget,
    timeout,
  )


def _costs(case: TrainingCase, timeout: float) -> dict[str, Any]:
  """The costs of a case's layers, by the memory model."""
  from tools.benchmark import training_step

  def cost(announce: Any) -> dict[str, Any]:
    del announce
    return _as_json(training_step.plan(case))

  return watched_fork.call(cost, 0, timeout)


def _measured_costs(
  case: TrainingCase, core: int, timeout: float
) -> dict[str, Any]:
  """The same with times measured on a core."""
  from tools.benchmark import training_step

  def cost(announce: Any) -> dict[str, Any]:
    del announce
    return _as_json(training_step.measured_plan(case, core))

  return watched_fork.call(cost, 0, timeout)


def _link_speed(case: TrainingCase, timeout: float) -> dict[str, Any]:
  """What steps and transfers take with as many workers as the case has."""
  from tools.benchmark import link_speed

  def measure(announce: Any) -> dict[str, Any]:
    del announce
    return dataclasses.asdict(link_speed.measure(case.num_workers))

  return watched_fork.call(measure, 0, timeout)


def _update_seconds(
  case: TrainingCase, splits: list[int], timed_steps: int, timeout: float
) -> dict[str, Any]:
  """What a step takes besides its tasks."""
  from tools.benchmark import training_step

  def measure(announce: Any) -> float:
    del announce
    return training_step.update_seconds(case, splits, timed_steps)

  return watched_fork.call(measure, 0, timeout)


def _as_json(found: Any) -> dict[str, Any]:
  return {
    'layers': [dataclasses.asdict(layer) for layer in found.layers],
    'input_bytes': found.spec.input_bytes,
  }


def _predict(
  case: TrainingCase, splits: list[int], timeout: float
) -> dict[str, Any]:
  """What each worker needs by the memory model, beside its idle level."""
  from tools.benchmark import training_step

  def predict(announce: Any) -> dict[str, Any]:
    del announce
    found = training_step.plan(case, splits)
    return {
      'predicted': list(found.device_memory),
      'cells': list(found.sizes),
    }

  return watched_fork.call(predict, 0, timeout)


_COMMANDS = {
  'measure': _measure,
  'costs': _costs,
  'measured_costs': _measured_costs,
  'link_speed': _link_speed,
  'update_seconds': _update_seconds,
  'predict': _predict,
}


def serve() -> None:
  """Carries out commands until standard input ends."""
  replies = os.fdopen(os.dup(1), 'w')
  # What libraries print is not to be taken for a reply.
  os.dup2(2, 1)
  for line in sys.stdin:
    command = json.loads(line)
    do = _COMMANDS[command.pop('do')]
    case = TrainingCase(**command.pop('case'))
    replies.write(json.dumps(do(case, **command)) + '\n')
    replies.flush()


if __name__ == '__main__':
  from absl import flags

  flags.FLAGS(sys.argv[:1])
  # Imported here once, and forked from then on.
  from tools.benchmark import (  # noqa: F401
    link_speed,
    training_step,
  )

  serve()
