# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What `start_up` measures, each in a process of its own."""

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import lingvo.compat as tf

from tools.benchmark import case_model, train_step
from tools.benchmark.cases import Case
from tools.common import process_memory

_STEPS = 5


def start(case: Case) -> dict[str, float]:
  """CPU seconds of a start, in graph mode.

  'building' is from nothing to a session with initialised weights, 'first' the
  first step, 'step' one after that.
  """
  tf.disable_eager_execution()
  splits = _splits(case)
  begun = time.process_time()
  step = train_step.TrainStep(case, splits)
  return {
    'building': time.process_time() - begun,
    'first': _seconds(step.run),
    'step': statistics.median(_seconds(step.run) for _ in range(_STEPS)),
  }


def graph(case: Case, number: int) -> float:
  """By how many bytes the process grows with each graph of the last half."""
  tf.disable_eager_execution()
  splits = _splits(case)
  first = number // 2
  for i in range(number):
    if i == first:
      gc.collect()
      before = process_memory.anonymous_bytes()
    train_step.TrainStep(case, splits).run()
  gc.collect()
  return (process_memory.anonymous_bytes() - before) / (number - first)


def _seconds(action: Callable[[], Any]) -> float:
  """CPU seconds of all threads of this process."""
  begun = time.process_time()
  action()
  return time.process_time() - begun


def _splits(case: Case) -> list[int]:
  """Cells of about the same number of layers."""
  number = len(case_model.make(case).layers)
  ends = range(1, case.num_cells)
  return [round(k * number / case.num_cells) for k in ends]
