# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Real memory of real processes: four workers, one for each cell."""

import dataclasses
import statistics

import pytest

from tools.benchmark import memory
from tools.benchmark.memory import bottlenecks

_BATCH = 16384
_MIDDLE = (1, 2)
# What the heap keeps, and how far the network runs ahead, vary between runs.
_RUNS = 3


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
