# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Predictions against a stand-in for measurements."""

import json

import pytest

from tools.benchmark import check_predictions, check_predictions_command
from tools.benchmark.check_predictions import Check, Checked, CheckError
from tools.benchmark.training_case import TrainingCase

_LAYERS = 4


class _Server:
  """Answers as a training_server does: what the planner should say."""

  def __init__(self, module, argument, environment=None):
    del module, argument
    self.shows_memory = bool(environment)
    self.asked = []

  def __enter__(self):
    _SERVERS.append(self)
    return self

  def __exit__(self, *unused):
    pass

  def ask(self, do, case, **arguments):
    self.asked.append(do)
    case = TrainingCase(**case)
    if do == 'measured_costs':
      # The other core is slower.
      forward = 0.1 + 0.02 * arguments['core']
      layer = {'name': 'l', 'forward': forward, 'backward': 0.2}
      layer |= {'weight_bytes': 1000, 'activation_bytes': 500}
      return {'result': {'layers': [layer] * _LAYERS, 'input_bytes': 0}}
    if do == 'link_speed':
      # A small tensor takes a quarter of a second.
      link = {'latency': 0.25, 'bytes_a_second': None}
      return {
        'result': link if case.num_workers > 1 else {**link, 'latency': 0}
      }
    if do == 'update_seconds':
      assert len(arguments['splits']) == case.num_workers - 1
      return {'result': 0.5}
    assert arguments['pinned']
    assert len(arguments['splits']) == case.num_workers - 1
    if case.model == 'Transformer-9':
      return {'error': 'broken'}
    cells = [_LAYERS // case.num_workers] * case.num_workers
    # 8000 and some more for each layer; forward and backward, no bubble.
    return {
      'result': {
        'idle': [50] * case.num_workers,
        'peaks': [50 + 8000 * layers for layers in cells],
        'step_seconds': 0.5 + 0.3 * _LAYERS * case.num_micro_batches
        if not self.shows_memory
        else 99.0,
      }
    }


_SERVERS: list[_Server] = []


@pytest.fixture
def servers(monkeypatch):
  _SERVERS.clear()
  monkeypatch.setattr(check_predictions.one_core, 'num_usable_cores', lambda: 2)
  monkeypatch.setattr(check_predictions, 'ChildProcess', _Server)
  return _SERVERS


def test_predictions_are_those_of_the_timed_layers(servers):
  base = TrainingCase('transformer', 2, 16, 8, 4, schedule='gpipe')
  case = TrainingCase(
    'transformer', 2, 16, 8, 16, 2, 4, schedule='gpipe', recompute='always'
  )
  one, two = Check().run([base, case])
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
  memory, timing, other = servers
  assert memory.shows_memory
  assert memory.asked == ['measure'] * 2
  assert timing.asked.count('measure') == 2
  assert timing.asked.count('measured_costs') == 2
  assert other.asked == ['measured_costs']


def test_layers_are_timed_right_before_the_steps(servers):
  cases = [
    TrainingCase('transformer', 2, 16, 8, 4 * m, 1, m, schedule='gpipe')
    for m in (1, 4)
  ]
  assert len(Check().run(cases)) == 2
  _, timing = servers
  assert timing.asked == 2 * [
    'measured_costs',
    'link_speed',
    'update_seconds',
    'measure',
  ]


def test_a_failure_names_the_case(servers):
  case = TrainingCase('transformer', 9, 16, 8, 4)
  with pytest.raises(CheckError, match=r'Transformer-9, K = 1.*broken'):
    Check().run([case])


def test_the_six_cases_differ_in_all_respects():
  for scale in (1, 2, 4):
    cases = check_predictions.default_cases(scale)
    assert len(set(cases)) == 6
    assert {case.family for case in cases} == {'amoebanet', 'transformer'}
    for name in ('num_workers', 'num_micro_batches', 'schedule', 'recompute'):
      assert len({getattr(case, name) for case in cases}) > 1


def test_the_table_and_the_status_say_how_far_it_is(
  monkeypatch, capsys, tmp_path
):
  case = check_predictions.default_cases()[1]
  found = [Checked(case, (110 * 2**20, 5), (2**20, 100 * 2**20), 1.2, 1.0)]
  monkeypatch.setattr(Check, 'run', lambda self, cases: found)
  path = tmp_path / 'checked.json'
  assert check_predictions_command.main([f'--json={path}']) == 1
  text = capsys.readouterr().out
  assert '+10%' in text
  assert '+20%' in text
  assert 'off by 20%; 15% is allowed' in text
  assert check_predictions_command.main(['--tolerance=0.25']) == 0
  assert json.loads(path.read_text())['cases'][0]['time_error'] > 0.19


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['--cases=7'], 'numbers from 1 to 6'),
    (['--cases=x'], 'numbers from 1 to 6'),
    (['--cases=0'], 'numbers from 1 to 6'),
    (['--steps=0'], '--steps=0 must be 1 or more'),
  ],
)
def test_mistakes_are_named(argv, message, capsys):
  with pytest.raises(SystemExit) as raised:
    check_predictions_command.main(argv)
  assert raised.value.code == 2
  assert message in capsys.readouterr().err
