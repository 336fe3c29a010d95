# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The search with a stand-in for measurements, and one real measurement."""

import dataclasses
import json

import pytest

from tools.benchmark import (
  largest_models,
  largest_models_command,
  largest_models_report,
  process_memory,
)
from tools.benchmark.largest_models import (
  Family,
  MeasurementError,
  Search,
  settings,
)
from tools.benchmark.training_case import TrainingCase

_MB = 2**20
_BUDGET = 600 * _MB
_IDLE = 300 * _MB
# A layer's weights, slots and gradients, and activations of a mini-batch.
_STATE = 16 * _MB
_ACTIVATIONS = 16 * _MB
_M = 4


class _Server:
  """Answers as a training_server does."""

  def __init__(self):
    self.measured = []

  def __call__(self, do, case, timeout, budget=None, splits=None):
    case = TrainingCase(**case)
    if do == 'costs':
      layer = {
        'weight_bytes': _STATE // 4,
        'optimizer_bytes': _STATE // 2,
        'activation_bytes': _ACTIVATIONS // case.num_micro_batches,
        'parameters': _STATE // 16,
      }
      layers = [{'name': 'embedding'}, {'name': 'l', **layer}, {'name': 's'}]
      return {'result': {'layers': layers, 'input_bytes': 0}}
    each = -(-case.length // case.num_workers)
    assert len(splits) == case.num_workers - 1
    if do == 'predict':
      return {
        'result': {
          'predicted': [each * _STATE] * case.num_workers,
          'cells': [each] * case.num_workers,
        }
      }
    assert do == 'measure'
    self.measured.append(case)
    activations = each * _ACTIVATIONS // case.num_micro_batches
    state = _STATE * (5 if case.num_micro_batches > 1 else 4) // 4
    peak = _IDLE + each * state + activations
    if peak > budget:
      return {'over': [peak]}
    return {
      'result': {
        'peaks': [peak - 1] * (case.num_workers - 1) + [peak],
        'idle': [_IDLE] * case.num_workers,
        'parameters': case.length * _STATE // 16,
        'build_seconds': 1.0,
        'step_seconds': 2.5,
        'loss': 3.0,
      }
    }


@pytest.fixture(scope='module')
def server():
  return _Server()


def _transformers():
  base = TrainingCase('transformer', 1, 64, 32, 8)
  return Family(base, _M, (1,), tuple(range(1, 70)))


@pytest.fixture(scope='module')
def columns(server):
  search = Search(server, _BUDGET, filled=1.0)
  return search.family(_transformers(), settings([1, 2, 4]))


def test_each_setting_has_its_largest_model(columns):
  # 300 MB are left: for 16 + 16 a layer, then for 20 + 4.
  assert [c.case.length for c in columns] == [9, 12, 24, 48]
  assert [c.too_large.length for c in columns] == [10, 13, 25, 49]
  assert [c.setting.name for c in columns] == [
    'Naive-1', 'Pipeline-1', 'Pipeline-2', 'Pipeline-4',
  ]  # fmt: skip


def test_only_pipelines_have_micro_batches_and_recomputation(columns, server):
  naive, *pipelines = (column.case for column in columns)
  assert (naive.num_micro_batches, naive.recompute) == (1, 'never')
  for case in pipelines:
    assert (case.num_micro_batches, case.recompute) == (_M, 'always')
  assert [case.num_workers for case in pipelines] == [1, 2, 4]
  assert len(server.measured) == sum(c.num_trials for c in columns) <= 16


def test_the_table_says_it(columns):
  lines = largest_models_report.as_text(columns).splitlines()
  rows = {}
  for line in lines[2:]:
    title, *cells = (cell.strip() for cell in line.split('|')[1:-1])
    rows[title] = cells
  assert rows['model'][0] == 'Transformer-9'
  assert rows['times Naive-1'] == ['1.00', '1.33', '2.67', '5.33']
  assert rows['fullest worker, GiB'][0] == f'{(300 + 9 * 32) / 1024:.2f}'
  assert rows['by the memory model'][0] == f'{(300 + 9 * 16) / 1024:.2f}'
  assert rows['too large'][3] == 'Transformer-49'
  assert len(rows['measured peaks, GiB'][3].split()) == 4
  assert json.loads(json.dumps(largest_models_report.as_json(columns)))


def test_a_model_that_never_fits_has_dashes():
  search = Search(_Server(), _IDLE)
  columns = search.family(_transformers(), settings([1]))
  assert columns[0].case is None
  assert '-' in largest_models_report.as_text(columns)


def test_a_failure_is_no_misfit():
  server = _Server()

  def fail(do, **command):
    return server(do, **command) if do == 'costs' else {'error': 'broken'}

  with pytest.raises(MeasurementError, match='broken'):
    Search(fail, _BUDGET).family(_transformers(), settings([1]))


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['--budget', '4GiB'], '--total'),
    (['--budget', 'much'], 'use text such as 3GiB'),
    (['--lengths', '7'], 'multiple of 3'),
    (['--families', 'resnet'], 'no family'),
    (['--rows', '6'], 'does not divide'),
  ],
)
def test_mistakes_are_named(argv, message, capsys):
  with pytest.raises(SystemExit):
    largest_models_command.main(argv)
  assert message in capsys.readouterr().err


@pytest.mark.skipif(not process_memory.available(), reason='/proc takes Linux')
def test_a_real_step_on_two_workers_is_measured():
  case = TrainingCase('transformer', 2, 64, 8, 4, 2, 2, 'always')
  with largest_models.server() as server:
    reply = server.ask(
      do='measure',
      case=dataclasses.asdict(case),
      splits=[2],
      budget=3 * 2**30,
      timeout=120,
      timed_steps=1,
      pinned=True,
      warm_up=True,
    )
    costs = server.ask(
      do='measured_costs', case=dataclasses.asdict(case), core=1, timeout=120
    )
  result = reply['result']
  state = 12 * result['parameters']
  used = [
    peak - idle
    for peak, idle in zip(result['peaks'], result['idle'], strict=True)
  ]
  assert len(used) == 2
  assert sum(used) > state
  assert result['loss'] > 0
  assert result['step_seconds'] > 0
  # What the planner predicts from: seconds, beside the bytes.
  layers = costs['result']['layers']
  assert len(layers) == case.length + 2
  assert sum(layer['parameters'] for layer in layers) == result['parameters']
  assert all(0 < layer['forward'] < 10 for layer in layers)
