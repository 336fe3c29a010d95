# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs random draws, and makes those that fail smaller."""

import faulthandler
import itertools
import sys
import time

import hypothesis
from absl import logging
from drawn_layers import comparing, strategies
from drawn_layers.draws import Draw

# How many draws to ask hypothesis for, for each that is run: to make one costs
# next to nothing, to run it seconds.
_MADE_FOR_EACH = 20
_DRAW_SECONDS = 600


class _Sample:
  """Up to so many draws that are worth running.

  Each has a layer that the one before has not, and two neighbours that none
  before has: hypothesis follows each draw up by some that repeat parts of it,
  and often comes back to small ones.
  """

  def __init__(self, size: int):
    self._left = size
    self._last: set[str] = set()
    self._neighbours: set[tuple[str, str]] = set()

  def takes(self, draw: Draw) -> bool:
    layers = list(map(repr, draw.layers))
    neighbours = set(itertools.pairwise(layers))
    is_new = not (
      self._last.issuperset(layers) or neighbours <= self._neighbours
    )
    if not self._left or not is_new:
      return False
    self._left -= 1
    self._last = set(layers)
    self._neighbours |= neighbours
    return True


class _Enough(BaseException):
  """Ends the search; Hypothesis takes it for none of the draw's errors."""


def run(
  num_draws: int, seed: int | None = None, shrink_seconds: int = 120
) -> dict[str, str]:
  """Runs draws up to the first that fails, and makes that smaller.

  Without a seed the draws are always the same. Returns the problem of each draw
  that fails: the smallest of each kind.
  """
  # Of a crash the last lines are shown.
  logging.set_verbosity(logging.ERROR)
  sample = _Sample(num_draws)
  smallest: dict[str, tuple[str, str]] = {}
  end_of_shrinking = None

  @hypothesis.settings(
    max_examples=num_draws * _MADE_FOR_EACH,
    derandomize=seed is None,
    deadline=None,
    database=None,
    phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(strategies.random_draws())
  def check(draw: Draw) -> None:
    nonlocal end_of_shrinking
    if end_of_shrinking is None:
      if not sample.takes(draw):
        return
    elif time.process_time() > end_of_shrinking:
      raise _Enough
    # What a crash leaves behind for the process that started this one.
    print(f'Running {draw}', file=sys.stderr, flush=True)
    faulthandler.dump_traceback_later(_DRAW_SECONDS, exit=True)
    problem = comparing.problem(draw)
    faulthandler.cancel_dump_traceback_later()
    if problem:
      # Hypothesis tries smaller and smaller ones: the last is the smallest.
      smallest[problem.partition(':')[0]] = (repr(draw), problem)
      if end_of_shrinking is None:
        end_of_shrinking = time.process_time() + shrink_seconds
      raise AssertionError

  try:
    (check if seed is None else hypothesis.seed(seed)(check))()
  except (_Enough, AssertionError, hypothesis.errors.HypothesisException):
    if not smallest:
      raise
  return dict(smallest.values())
