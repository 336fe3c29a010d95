# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""In eager mode, inside tf.function, results are those of graph mode."""

import functools
import importlib
import multiprocessing
from concurrent import futures

import eager_steps
import numpy as np
import pipeline_testing as pt
import pytest
import tiny_pipeline
from eager_steps import CASES, Case, name_in


@functools.cache
def _initial_values(model):
  def build():
    layer = Case(model).params().Instantiate()
    return {name_in(v): v for v in layer.vars.Flatten()}

  return tiny_pipeline.run(build)


@pytest.fixture(scope='module')
def eager_results():
  values = {case.model: _initial_values(case.model) for case in CASES}
  spawn = multiprocessing.get_context('spawn')
  first = importlib.import_module, ('lingvo_gpipe',)  # Before Lingvo.
  with futures.ProcessPoolExecutor(1, spawn, *first) as process:
    return process.submit(eager_steps.run, values).result()


@pytest.mark.parametrize('case', CASES)
def test_tf_function_gives_what_graph_mode_gives(case, eager_results):
  metrics, gradients = eager_results[1][case]
  graph_mode = pt.run_step(case.params(), compute=case.metrics)
  gradients = {f'net/{name}': g for name, g in gradients.items()}
  result = pt.Result(metrics, gradients)
  if case.model in ('shared inputs', 'second loss'):
    # Products of activations with themselves: the last bits may differ.
    pt.assert_close(result, graph_mode, tolerance=1e-6)
  else:
    pt.assert_identical(result, graph_mode)


@pytest.mark.parametrize('case', CASES)
def test_an_eager_step_traces_once_and_gives_what_a_new_trace_gives(
  case, eager_results
):
  first, second, changed, anew = eager_results[0][case]
  assert first[0] > 0 and anew[0] > 0
  if case.model != 'second loss':  # A metric's own pass is traced each time.
    assert (second[0], changed[0]) == (0, 0)
  for one, other in ((first, second), (changed, anew)):
    assert one[1] == other[1]
    for name, gradient in one[2].items():
      np.testing.assert_array_equal(gradient, other[2][name])
  assert first[1] != changed[1]


def test_nothing_is_kept_of_a_dropped_function(eager_results):
  assert eager_results[2] == 0
