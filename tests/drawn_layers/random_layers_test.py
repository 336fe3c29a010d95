# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whatever the layers, no cut, schedule or policy changes a bit."""

import hypothesis
from drawn_layers import comparing, sampling, strategies

_NUM_DRAWS = 24


def test_every_variant_gives_the_same_bits():
  sample = sampling.Sample(_NUM_DRAWS)
  problems = {}

  @hypothesis.settings(
    max_examples=_NUM_DRAWS * sampling.MADE_FOR_EACH,
    derandomize=True,
    deadline=None,
    database=None,
    # tools/random_layers.py makes small what fails; it takes minutes.
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(strategies.random_draws())
  def check(draw):
    text = repr(draw)
    # What fails is asked for again.
    if text not in problems and sample.takes(draw):
      problems[text] = comparing.problem(draw)
    assert not problems.get(text), f'{text}\n{problems[text]}'

  check()
