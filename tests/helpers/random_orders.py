# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import random
from collections.abc import Iterator

from lingvo_gpipe import schedules


def problem(
  seed: int, most_devices: int = 5, most_micro_batches: int = 12
) -> schedules.OrderProblem:
  """Uneven cells, transfers, and limits with room for one micro-batch."""
  rng = random.Random(seed)
  num_devices = rng.randint(1, most_devices)
  rounds = rng.choice((1, 1, 2))
  num_cells = num_devices * rounds
  name = rng.choice(('zb_v', '1f1b')) if rounds == 2 else '1f1b'
  devices = schedules.place(name, num_cells, num_devices)
  spread = rng.choice((0, 3, 8))

  def times(least: int) -> tuple[int, ...]:
    return tuple(
      max(least, 10 + rng.randint(-spread, spread)) for _ in range(num_cells)
    )

  stash = tuple(rng.randint(1, 4) for _ in range(num_cells))
  limits: list[int | None] = [None] * num_devices
  if rng.random() < 0.6:
    limits = [
      int(
        rng.uniform(1, 1 + num_devices)
        * sum(s for s, d in zip(stash, devices, strict=True) if d == device)
      )
      for device in range(num_devices)
    ]
  return schedules.OrderProblem(
    devices,
    rng.randint(1, most_micro_batches),
    times(1),
    times(1),
    times(0),
    tuple(rng.choice((0, 0, 1, 3, 8)) for _ in range(num_cells - 1)),
    stash,
    tuple(limits),
  )


def named(problem: schedules.OrderProblem) -> Iterator[schedules.Schedule]:
  """The named schedules that such a pipeline can have."""
  for name in schedules.SCHEDULE_NAMES:
    if name != 'auto':
      try:
        yield schedules.make_schedule(
          name, problem.cell_devices, problem.num_micro_batches
        )
      except ValueError:
        continue
