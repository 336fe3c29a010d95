# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The search with a stand-in for measurements, and one real measurement."""

import dataclasses
import json

import pytest

from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.partitioner import PipelineSpec, partition
from tools.benchmark.cases import Case
from tools.benchmark.measured import WorkerRun
from tools.common import fresh
from tools.paper import largest_models
from tools.paper.largest_models import Family, Search

_MB = 2**20
_BUDGET = 600 * _MB
_IDLE = 300 * _MB
# A layer's weights, slots and gradients, and activations of a mini-batch.
_STATE = 16 * _MB
_ACTIVATIONS = 16 * _MB
_M = 4


class _Processes:
  def __init__(self):
    self.measured = []

  def __call__(self, function, case, splits=None, budget=None):
    if function == 'tools.benchmark.case_cut.planned':
      return _planned(case, splits)
    assert function == 'tools.benchmark.worker_run.run'
    self.measured.append(case)
    each = -(-case.num_layers // case.num_cells)
    activations = each * _ACTIVATIONS // case.num_micro_batches
    state = _STATE * (5 if case.num_micro_batches > 1 else 4) // 4
    peak = _IDLE + each * state + activations
    if peak > budget:
      raise fresh.OverBudgetError('too much')
    return WorkerRun(
      peaks=[peak - 1] * (case.num_cells - 1) + [peak],
      idle=[_IDLE] * case.num_cells,
      data=[],
      parameters=case.num_layers * _STATE // 16,
      build_seconds=1.0,
      step_seconds=2.5,
    )


def _planned(case, splits):
  layer = LayerCost(
    'l',
    weight_bytes=_STATE // 4,
    optimizer_bytes=_STATE // 2,
    activation_bytes=_ACTIVATIONS // case.num_micro_batches,
    parameters=_STATE // 16,
  )
  layers = [LayerCost('embedding'), *[layer] * case.num_layers, LayerCost('s')]
  spec = PipelineSpec(
    num_devices=case.num_cells,
    num_micro_batches=case.num_micro_batches,
    schedule=case.schedule,
    recompute=case.recompute,
  )
  return partition(layers, spec, splits)


@pytest.fixture(scope='module')
def processes():
  return _Processes()


def _transformers():
  base = Case(
    *('', 'transformer', 1, 64, 8, 1, 1, 32), num_ids=50, recompute='never'
  )
  return Family(base, _M, (1,), tuple(range(1, 70)))


@pytest.fixture(scope='module')
def columns(processes):
  search = Search(processes, _BUDGET, filled=1.0)
  return search.family(_transformers(), [1, 2, 4])


def test_each_setting_has_its_largest_model(columns, processes):
  # 300 MB are left: for 16 + 16 a layer, then for 20 + 4.
  assert [c.case.num_layers for c in columns] == [9, 12, 24, 48]
  assert [c.too_large.num_layers for c in columns] == [10, 13, 25, 49]
  assert [
    (c.case.num_cells, c.case.num_micro_batches, c.case.recompute)
    for c in columns
  ] == [(1, 1, 'never'), *((k, _M, 'always') for k in (1, 2, 4))]
  assert len(processes.measured) <= 16


def test_the_table_says_it(columns):
  lines = largest_models.as_text(columns).splitlines()
  rows = {}
  for line in lines[2:]:
    title, *cells = (cell.strip() for cell in line.split('|')[1:-1])
    rows[title] = cells
  assert rows['model'][0] == 'Transformer-9'
  assert rows['times Naive-1'] == ['1.00', '1.33', '2.67', '5.33']
  assert rows['fullest worker, GiB'][0] == f'{(300 + 9 * 32) / 1024:.2f}'
  # Weights, slots, gradients and activations of nine layers.
  assert rows['by the memory model'][0] == f'{(300 + 9 * 32) / 1024:.2f}'
  assert rows['too large'][3] == 'Transformer-49'
  assert len(rows['measured peaks, GiB'][3].split()) == 4
  assert json.dumps([dataclasses.asdict(column) for column in columns])


def test_a_model_that_never_fits_has_dashes():
  search = Search(_Processes(), _IDLE)
  columns = search.family(_transformers(), [1])
  assert columns[0].case is None
  assert '-' in largest_models.as_text(columns)


def test_a_failure_is_no_misfit():
  def fail(function, case, *args, **kwargs):
    if function == 'tools.benchmark.case_cut.planned':
      return _planned(case, None)
    raise fresh.ProcessError('broken')

  with pytest.raises(fresh.ProcessError, match='broken'):
    Search(fail, _BUDGET).family(_transformers(), [1])


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['--budget', '4GiB'], '--total'),
    (['--budget', 'much'], 'use text such as 8GiB'),
    (['--families', 'resnet'], 'resnet is none of amoebanet'),
    (['--workers=0'], '--workers=(0,): use numbers of 1'),
  ],
)
def test_mistakes_are_named(argv, message, refused):
  assert message in refused(largest_models.main, argv)
