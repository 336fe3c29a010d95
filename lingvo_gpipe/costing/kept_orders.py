# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Orders of the schedule 'auto', kept in the file of measured costs.

The search takes seconds where cells are uneven and M is large. It counts its
work, not the time, so each process finds the same without the file, too.
"""

import dataclasses
import hashlib
import json

from lingvo_gpipe import schedules, version
from lingvo_gpipe.costing.costs_file import CostsFile
from lingvo_gpipe.schedules import OrderProblem


def with_known_order(problem: OrderProblem, path: str | None) -> OrderProblem:
  """The problem with its order, from the file or found now.

  Args:
    problem: The pipeline.
    path: The file; without one the problem is returned as it is.

  Raises:
    ValueError: It is no file of costs, or what it has for the problem is no
      order that fits.
  """
  if not path:
    return problem
  stored = CostsFile(path)
  what = version.__version__, dataclasses.astuple(problem)
  key = hashlib.sha256(repr(what).encode()).hexdigest()[:32]
  entry = stored.get('orders', key)
  if entry is None:
    found = schedules.find_best_order(problem).schedule
    entry = stored.add('orders', key, json.loads(schedules.to_json(found)))
  known = schedules.from_json(path, json.dumps(entry))
  return dataclasses.replace(problem, known=known)
