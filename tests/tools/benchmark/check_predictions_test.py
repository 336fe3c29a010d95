# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Predictions against a stand-in for measurements."""

import contextlib
import json
from types import SimpleNamespace

import pytest

from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.partitioner import PipelineSpec, partition
from lingvo_gpipe.schedules import RECOMPUTE_POLICIES
from tools.benchmark import check_predictions
from tools.benchmark.cases import Case
from tools.benchmark.check_predictions import Checked
from tools.benchmark.measured import WorkerRun
from tools.common import fresh

_LAYERS = 4


class _Processes:
  """Answers as processes do: what the planner should say."""

  def __init__(self):
    self.asked = []
    self._shows_memory = False

  def call(self, function, *args, timeout, **kwargs):
    name = function.removeprefix('tools.benchmark.')
    self.asked.append(f'{name} alive' if self._shows_memory else name)
    return getattr(self, name.partition('.')[2])(*args, **kwargs)

  @contextlib.contextmanager
  def alive(self):
    def call(*args, **kwargs):
      self._shows_memory = True
      found = self.call(*args, **kwargs)
      self._shows_memory = False
      return found

    yield SimpleNamespace(call=call)

  def measured(self, case, core):
    # The other core is slower.
    forward = 0.1 + 0.02 * core
    layers = [
      LayerCost(f'l{i}', forward, 0.2, weight_bytes=1000, activation_bytes=500)
      for i in range(_LAYERS)
    ]
    spec = PipelineSpec(num_devices=case.num_cells)
    return partition(layers, spec)

  def measure(self, num_workers):
    # A small tensor takes a quarter of a second.
    return 0.25 if num_workers > 1 else 0, None

  def take_turns(self, cases, splits, rounds):
    assert [len(ends) for ends in splits] == [c.num_cells - 1 for c in cases]
    # Forward and backward, no bubble; what is not kept runs again.
    assert not self._shows_memory
    work = [
      (0.3 * _LAYERS + 0.1 * self._again(case)) * case.num_micro_batches
      for case in cases
    ]
    return 0.5, [[0.5 + seconds] * rounds for seconds in work]

  def _again(self, case):
    count = 0 if case.recompute == 'never' else _LAYERS - len(case.kept)
    return count if case.num_micro_batches == 6 else 0

  def run(self, case, splits, *, warm_up):
    assert warm_up and len(splits) == case.num_cells - 1
    assert self._shows_memory
    cells = [_LAYERS // case.num_cells] * case.num_cells
    # 8000 for each layer.
    peaks = [50 + 8000 * layers for layers in cells]
    return WorkerRun(peaks, [50] * case.num_cells, [], 1, 1.0, 99.0)


@pytest.fixture
def processes(monkeypatch):
  processes = _Processes()
  monkeypatch.setattr(check_predictions.cores, 'num_usable', lambda: 2)
  monkeypatch.setattr(fresh, 'call', processes.call)
  monkeypatch.setattr(fresh, 'AliveOnly', processes.alive)
  return processes


def _case(*sizes, **more):
  return Case('', 'transformer', *sizes, example_size=8, **more)


def test_predictions_are_those_of_the_timed_layers(processes):
  base = _case(2, 16, 4, 1, 1, schedule='gpipe', recompute='never')
  case = _case(2, 16, 16, 2, 4, schedule='gpipe', recompute='always')
  one, two = check_predictions.check([base, case], 3)
  # One micro-batch, nothing recomputed: weights, gradients and activations.
  assert one.predicted_bytes == (_LAYERS * (2 * 1000 + 500),)
  assert one.measured_bytes == (_LAYERS * 8000,)
  assert one.predicted_seconds == pytest.approx(0.5 + 0.3 * _LAYERS)
  assert one.time_error == pytest.approx(0)
  # Two cores: the mean of both; recomputed; K - 1 more slots than M; there and
  # back once, and the update.
  seconds = 2 * (2 * 0.11 + 0.2) * 5 + 2 * 0.25 + 0.5
  assert two.predicted_seconds == pytest.approx(seconds)
  assert two.predicted_bytes == (2 * (3 * 1000 + 500),) * 2
  # Right before the steps: machines are not always equally fast.
  assert processes.asked == [
    'case_cut.measured',
    *_OF_EACH,
    *['case_cut.measured'] * 2,
    *_OF_EACH,
  ]


_OF_EACH = (
  'link_speed.measure',
  'worker_run.take_turns',
  'worker_run.run alive',
)


def test_fit_is_measured_beside_the_policies_at_limits_between_them(processes):
  case = _case(*(2, 16, 12, 2, 6), schedule='gpipe', recompute='fit')
  found = check_predictions.check([case], 3)
  policies, fits = found[:3], found[3:]
  assert [one.case.recompute for one in policies] == list(RECOMPUTE_POLICIES)
  assert {one.limit for one in policies} == {None}
  least, _, most = (max(one.predicted_bytes) for one in policies)
  limits = [one.limit for one in fits]
  assert limits == [
    least + round(i * (most - least) / 6) for i in (1, 2, 3, 4, 5)
  ]
  assert all(max(one.predicted_bytes) <= one.limit for one in fits)
  # A layer costs five micro-batches' activations of 500, in each of two cells.
  assert [len(one.case.kept) for one in fits] == [0, 0, 2, 2, 2]
  assert processes.asked.count('worker_run.take_turns') == 1
  text = check_predictions.as_text(found)
  # At the middle limit half of the layers are kept.
  assert text.count('1.00 of the best policy that fits; 0% of the') == 2
  assert text.count('50% of the time from always to never is won back') == 3


def test_the_table_and_the_status_say_how_far_it_is(
  monkeypatch, capsys, tmp_path
):
  case = check_predictions.default_cases()[1]
  sizes = (110 * 2**20, 5), (2**20, 100 * 2**20)
  found = [Checked(case, None, *sizes, 1.2, (9.0, 1.0, 0.9))]
  monkeypatch.setattr(check_predictions, 'check', lambda *unused: found)
  path = tmp_path / 'checked.json'
  assert check_predictions.main([f'--json={path}']) == 1
  text = capsys.readouterr().out
  assert '+10%' in text
  assert '+20%' in text
  assert 'off by 20%; 15% is allowed' in text
  assert check_predictions.main(['--tolerance=0.25']) == 0
  assert json.loads(path.read_text())['cases'][0]['time_error'] > 0.19
