# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs some draws in a process of its own, and shrinks what fails.

Each graph that a process builds leaves something in its memory, so a search
takes a new process every few draws.
"""

import faulthandler
import json
import os
import sys
import time
import traceback
from typing import Any

import hypothesis
from absl import logging
from drawn_layers import sampling
from drawn_layers.draws import Draw

from tools.benchmark import lingvo_set_up, process_memory

_DRAW_SECONDS = 600
_SHOWN = 2000
_MOST_BYTES = 3 * 2**30


class _BitsDiffer(AssertionError):
  """Two variants, or the plain model, gave other numbers."""


class _Worker:
  """Runs draws, and keeps the smallest that failed of each kind."""

  def __init__(self, num_draws: int, shrink_seconds: float):
    self._sample = sampling.Sample(num_draws)
    self._shrink_seconds = shrink_seconds
    self._failed_at: float | None = None
    self._num_draws = 0
    self._found: dict[str, Any] = {}

  def check(self, draw: Draw) -> None:
    """Runs a draw; raises what is wrong with it."""
    from drawn_layers import comparing

    self._stop_in_time()
    if self._failed_at is None:
      if not self._sample.takes(draw):
        return
      self._num_draws += 1
    # What a crash leaves behind for the process that started this one.
    print(f'Running {draw}', file=sys.stderr, flush=True)
    faulthandler.dump_traceback_later(_DRAW_SECONDS, exit=True)
    try:
      problem = next(comparing.problems(draw), None)
    except Exception as error:
      text = ''.join(traceback.format_exception(error))
      self._keep(f'{type(error).__name__}', draw, text[-_SHOWN:])
      raise
    finally:
      faulthandler.cancel_dump_traceback_later()
    if problem is not None:
      self._keep('numbers', draw, problem)
      raise _BitsDiffer

  @property
  def has_found(self) -> bool:
    return bool(self._found)

  def reply(self) -> None:
    """Tells what was found."""
    found = list(self._found.values())
    print(json.dumps({'draws': self._num_draws, 'found': found}), flush=True)

  def _keep(self, kind: str, draw: Draw, problem: str) -> None:
    # Hypothesis tries smaller and smaller ones: the last is the smallest.
    self._found[kind] = {'draw': repr(draw), 'problem': problem}
    if self._failed_at is None:
      self._failed_at = time.process_time()

  def _stop_in_time(self) -> None:
    """Ends the process if shrinking has taken long, or it is large."""
    shrinking = self._failed_at is not None and (
      time.process_time() - self._failed_at > self._shrink_seconds
    )
    if shrinking or process_memory.resident_bytes() > _MOST_BYTES:
      self.reply()
      os._exit(0)


def main(argument: str) -> None:
  """Runs draws; writes two lines of JSON, the first when it is ready.

  Args:
    argument: JSON of seed, draws, shrink_seconds, and the kinds of layers to
      do without.
  """
  lingvo_set_up.prepare()
  # Of a crash the last lines are shown.
  logging.set_verbosity(logging.ERROR)
  from drawn_layers import strategies

  print(json.dumps('ready'), flush=True)
  given = json.loads(argument)
  worker = _Worker(given['draws'], given['shrink_seconds'])

  @hypothesis.seed(given['seed'])
  @hypothesis.settings(
    max_examples=given['draws'] * sampling.MADE_FOR_EACH,
    deadline=None,
    database=None,
    phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(strategies.random_draws(given['without']))
  def check(draw: Draw) -> None:
    worker.check(draw)

  try:
    check()
  except Exception:
    # What failed is told below; anything else is a fault of the search.
    if not worker.has_found:
      raise
  worker.reply()


if __name__ == '__main__':
  main(sys.argv[1])
