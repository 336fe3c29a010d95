# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Predictions, and real memory of four workers, one for each cell."""

import dataclasses
import statistics

import pytest

from tools.benchmark import memory
from tools.benchmark.memory import bottlenecks

_BATCH = 16384
_MIDDLE = (1, 2)
# What the heap keeps, and how far the network runs ahead, vary between runs.
_RUNS = 3


def test_predictions_are_of_what_each_cell_has():
  # What crosses a boundary, and what is within a cell, of 1024 examples.
  unit, inner = 1024 * 1024 * 4, 1024 * 256 * 4
  for predicted in memory.predict(bottlenecks('gpipe', 32)):
    assert predicted['peak_stash'] == predicted['at_hand'] == 32
  found = memory.predict(bottlenecks('1f1b', 32))
  assert [p['peak_stash'] for p in found] == [4, 3, 2, 1]
  assert [p['at_hand'] for p in found] == [32, 4, 3, 2]
  inputs = [32768 * 128 * 4, 4 * unit, 3 * unit, 2 * unit]
  assert [p['inputs'] for p in found] == inputs
  assert [p['in_transit'] // unit for p in found] == [1, 2, 2, 1]
  assert found[0]['activations'] == unit + 2 * inner
  p = found[2]
  assert p['activations'] == 2 * unit + 2 * inner
  assert p['state'] == 3 * 2 * 1024 * 256 * 4
  parts = ('state', 'inputs', 'activations', 'in_transit')
  assert p['total'] == sum(p[part] for part in parts)


@pytest.fixture(scope='module')
def results():
  cases = [
    bottlenecks('gpipe', 32, batch=_BATCH),
    bottlenecks('1f1b', 32, batch=_BATCH),
    bottlenecks('1f1b', 16, batch=_BATCH),
  ]
  found = memory.measure(cases * _RUNS)
  medians = {}
  for i, case in enumerate(cases):
    runs = found[i :: len(cases)]
    peaks = zip(*(run.peaks for run in runs), strict=True)
    medians[case.schedule, case.num_micro_batches] = dataclasses.replace(
      runs[0], peaks=tuple(map(statistics.median, peaks))
    )
  return medians


@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
def test_peaks_are_what_the_simulated_schedule_predicts(results, schedule):
  result = results[schedule, 32]
  # The first cell of fill-drain can run ahead of what the network takes.
  first = 1 if schedule == 'gpipe' else 0
  for cell in range(first, result.case.num_cells):
    assert abs(result.errors[cell]) <= 0.2, (cell, result)


def test_1f1b_needs_at_most_half_of_fill_drain(results):
  for cell in _MIDDLE:
    fill_drain = results['gpipe', 32].peaks[cell]
    assert results['1f1b', 32].peaks[cell] <= fill_drain / 2


def test_more_micro_batches_lower_the_peak(results):
  few, many = results['1f1b', 16], results['1f1b', 32]
  for cell in _MIDDLE:
    # Each of the two peaks may be off by what the first test allows.
    assert (
      many.predictions[cell]['total'] < 0.6 * few.predictions[cell]['total']
    )
    assert many.peaks[cell] < 0.85 * few.peaks[cell]
