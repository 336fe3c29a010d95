# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import itertools

import pytest

from lingvo_gpipe.training import efficiency


class _Core:
  """Counts instead of binding."""

  available = True

  def __init__(self, error=None):
    self.pinned = False
    self.pins = 0
    self._error = error

  def pin(self):
    self.pinned = True
    self.pins += 1
    if self._error:
      raise self._error

  def release(self):
    self.pinned = False


class _Training:
  """Steps of 2 s on all cores and 3 s on one; the first takes 100 s."""

  def __init__(self, num_steps, first_step=0, **kwargs):
    self.now = 0.0
    self.core = kwargs.setdefault('core', _Core())
    self.times = efficiency.StepTimes(
      num_steps,
      clock=lambda: self.now,
      cpu_clock=lambda: self.now * 0.75,
      **kwargs,
    )
    for step in range(first_step, num_steps):
      self.times.before_step(step)
      if step == first_step:
        self.now += 100
      else:
        self.now += 3 if self.core.pinned else 2
      self.times.after_step(step + 1, {})
      self.now += 50  # Nobody's time: between the steps.
    self.times.before_step(num_steps)
    self.times.close()


def test_medians_and_efficiency_of_many_steps():
  training = _Training(100)
  summary = training.times.summary()
  assert (summary.seconds, summary.one_core_seconds) == (2, 3)
  assert summary.efficiency(2) == 0.75
  assert summary.one_core_share == 0.75
  assert training.core.pins == 3
  assert not training.core.pinned
  # 15 steps on one core, of which the first of each three do not count; 85 on
  # all cores, less five at the start and one after each stretch.
  assert (summary.num_one_core_steps, summary.num_steps) == (12, 77)


@pytest.mark.parametrize(
  ('num_steps', 'first_step', 'seconds', 'counted'),
  [
    (efficiency.MIN_STEPS - 1, 0, 2, efficiency.MIN_STEPS - 1 - 5),
    (110, 100, 2, 5),  # After a restart the steps of this run count.
    (10, 10, None, 0),
  ],
)
def test_too_few_steps_leave_the_efficiency_unknown(
  num_steps, first_step, seconds, counted
):
  training = _Training(num_steps, first_step)
  summary = training.times.summary()
  assert training.core.pins == 0
  assert (summary.seconds, summary.num_steps) == (seconds, counted)
  assert summary.one_core_seconds is None
  assert summary.efficiency(2) is None


def test_training_goes_on_where_binding_is_forbidden():
  training = _Training(100, core=_Core(error=PermissionError()))
  summary = training.times.summary()
  assert training.core.pins == 1
  assert not training.core.pinned
  assert summary.seconds == 2
  assert summary.efficiency(2) is None


@pytest.mark.parametrize('num_steps', [efficiency.MIN_STEPS, 61, 100, 1000])
def test_stretches_lie_apart_and_inside(num_steps):
  stretches = efficiency.one_core_stretches(num_steps)
  edges = [efficiency.WARM_UP_STEPS]
  for stretch in stretches:
    edges += [stretch.start, stretch.stop]
  edges.append(num_steps)
  assert all(b - a >= 3 for a, b in itertools.pairwise(edges))
