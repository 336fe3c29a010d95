# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import random

import pytest

from build_tools import graphs


@pytest.mark.parametrize('seed', range(20))
def test_a_component_is_what_reaches_each_other(seed):
  rng = random.Random(seed)
  nodes = [str(i) for i in range(rng.randint(1, 9))]
  graph = {
    node: {other for other in nodes if rng.random() < 0.2} for node in nodes
  }
  reached = {node: graphs.reach([node], graph.__getitem__) for node in nodes}
  assert graphs.components(graph) == {
    node: {other for other in reached[node] if node in reached[other]}
    for node in nodes
  }


def test_what_is_reached_includes_the_start():
  assert graphs.reach(['a'], {'a': ['b'], 'b': []}.__getitem__) == {'a', 'b'}
