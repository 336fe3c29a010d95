# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs some draws in a process of its own, and shrinks what fails.

Each graph that a process builds leaves something in its memory, so a search
takes a new process every few draws.
"""

import faulthandler
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

import hypothesis
from absl import logging
from drawn_layers import sampling
from drawn_layers.draws import Draw

from tools.benchmark import process_memory

_DRAW_SECONDS = 600
_SHOWN = 2000
_MOST_BYTES = 3 * 2**30


class _BitsDiffer(AssertionError):
  """Two variants, or the plain model, gave other numbers."""


class _Enough(BaseException):
  """Ends the search; Hypothesis takes it for none of the draw's errors."""


class Worker:
  """Runs draws, and keeps the smallest that failed of each kind."""

  def __init__(self, seed: int, num_draws: int, shrink_seconds: float):
    """Keeps which draws, how many, and CPU seconds to make them smaller."""
    self._seed = seed
    self._sample = sampling.Sample(num_draws)
    self._shrink_seconds = shrink_seconds
    self._failed_at: float | None = None
    self._most_draws = num_draws
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

  def prepare(self, without: Sequence[str]) -> None:
    """Imports what draws take, which are those without some kinds of layers."""
    # Of a crash the last lines are shown.
    logging.set_verbosity(logging.ERROR)
    from drawn_layers import strategies

    self._draws = strategies.random_draws(without)

  def run(self) -> dict[str, Any]:
    """Runs draws; returns how many, and what was found."""

    @hypothesis.seed(self._seed)
    @hypothesis.settings(
      max_examples=self._most_draws * sampling.MADE_FOR_EACH,
      deadline=None,
      database=None,
      phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
      suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(self._draws)
    def check(draw: Draw) -> None:
      self.check(draw)

    try:
      check()
    except _Enough:
      pass
    except Exception:
      # What failed is in the reply; anything else is a fault of the search.
      if not self._found:
        raise
    return {'draws': self._num_draws, 'found': list(self._found.values())}

  def _keep(self, kind: str, draw: Draw, problem: str) -> None:
    # Hypothesis tries smaller and smaller ones: the last is the smallest.
    self._found[kind] = {'draw': repr(draw), 'problem': problem}
    if self._failed_at is None:
      self._failed_at = time.process_time()

  def _stop_in_time(self) -> None:
    """Ends the search if shrinking has taken long, or the process is large."""
    shrinking = self._failed_at is not None and (
      time.process_time() - self._failed_at > self._shrink_seconds
    )
    if shrinking or process_memory.resident_bytes() > _MOST_BYTES:
      raise _Enough
