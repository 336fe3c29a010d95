# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A program that runs some draws, and makes those that fail smaller.

It prints a dict, as JSON, from each draw to its problem.
"""

import faulthandler
import json
import sys
import time

import hypothesis
from absl import logging
from drawn_layers import comparing, sampling, strategies
from drawn_layers.draws import Draw

_DRAW_SECONDS = 600
_SHRINK_SECONDS = 120  # Of the CPU.


class _Enough(BaseException):
  """Ends the search; Hypothesis takes it for none of the draw's errors."""


def run(seed: int, num_draws: int, without: list[str]) -> dict[str, str]:
  """Runs draws up to the first that fails: the smallest of each kind."""
  sample = sampling.Sample(num_draws)
  smallest: dict[str, tuple[str, str]] = {}
  end_of_shrinking = None

  @hypothesis.seed(seed)
  @hypothesis.settings(
    max_examples=num_draws * sampling.MADE_FOR_EACH,
    deadline=None,
    database=None,
    phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(strategies.random_draws(without))
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
        end_of_shrinking = time.process_time() + _SHRINK_SECONDS
      raise AssertionError

  try:
    check()
  except (_Enough, AssertionError, hypothesis.errors.HypothesisException):
    if not smallest:
      raise
  return dict(smallest.values())


def main() -> None:
  """Runs draws; the arguments are those of `run`."""
  # Of a crash the last lines are shown.
  logging.set_verbosity(logging.ERROR)
  seed, num_draws, *without = sys.argv[1:]
  print(json.dumps(run(int(seed), int(num_draws), without)))
