# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from tools.paper import size_search

_SIZES = tuple(range(10, 1000, 10))
_BUDGET = 5000


class _Machine:
  """Needs `slope` a unit; like the real one it stops what is too large."""

  def __init__(self, slope):
    self.slope = slope
    self.measured = []

  def __call__(self, size):
    assert size in _SIZES
    assert size not in self.measured
    self.measured.append(size)
    peak = round(size * self.slope)
    fits = peak <= _BUDGET
    return peak if fits else None, f'size {size}'

  @property
  def largest(self):
    fitting = [size for size in _SIZES if size * self.slope <= _BUDGET]
    return max(fitting, default=None)


def _search(machine, slope=10, **options):
  return size_search.largest(
    _SIZES, _BUDGET, lambda size: slope * size, machine, **options
  )


@pytest.mark.parametrize('slope', [5.3, 8, 9.7, 10.1, 11, 14.3, 60, 400])
def test_the_largest_is_found_whatever_the_guess_is_off_by(slope):
  machine = _Machine(slope)
  found = _search(machine, filled=1.0, max_trials=100)
  assert found.best == (machine.largest, f'size {machine.largest}')
  assert found.too_large == machine.largest + 10


def test_a_right_guess_that_fills_the_budget_is_measured_once():
  machine = _Machine(10)
  found = _search(machine)
  assert machine.measured == [490]
  assert found.too_large is None


def test_the_factor_is_handed_on():
  found = _search(_Machine(12.0))
  assert found.factor == pytest.approx(1.2, rel=0.01)
  machine = _Machine(12.0)
  _search(machine, factor=found.factor)
  assert len(machine.measured) == 1


@pytest.mark.parametrize(
  ('slope', 'best', 'too_large'),
  [(1000, None, _SIZES[0]), (0.1, _SIZES[-1], None)],
)
def test_nothing_or_everything_fits(slope, best, too_large):
  found = _search(_Machine(slope), max_trials=100)
  assert (found.best and found.best[0], found.too_large) == (best, too_large)


def test_it_ends_after_so_many_measurements():
  machine = _Machine(3.1)
  _search(machine, filled=1.0, max_trials=2)
  assert len(machine.measured) == 2
