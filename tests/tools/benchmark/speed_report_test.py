# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tools.benchmark import cases, speed_report
from tools.benchmark.measured import Cut, Measured

_CASE = cases.Case('some', 'mlp', 4, 8, 8, 2, 4)
_LINGVO, _OURS, _NAIVE, _PLAIN, _TORCH = cases.variants(
  _CASE, ['lingvo', 'ours-gpipe-always', 'naive', 'plain', 'torch-gpipe-always']
)


def _measured(step, graph=1.0, peak=200, loss=2.0, one_core=None, devices=()):
  return Measured(
    graph_seconds=[graph],
    first_step_seconds=[3.0],
    step_seconds=[step, 100 * step, step],
    one_core_seconds=[one_core] if one_core else [],
    idle_bytes=[100 * 2**20],
    peak_bytes=[peak * 2**20],
    device_bytes=[size * 2**20 for size in devices],
    losses=[3.0, loss],
  )


@pytest.fixture
def report():
  return speed_report.CaseReport(
    _CASE,
    {
      _LINGVO: _measured(2.0, 4.0, 300),
      _OURS: _measured(1.0, loss=1.5, one_core=1.5, devices=[70, 50]),
      _NAIVE: _measured(2.5),
      _PLAIN: _measured(3.0),
      _TORCH: _measured(1.0, loss=9.0),
    },
    {
      1: Cut([], ['a', 'b', 'c'], [(2.0, 4.0)], 'flops'),
      2: Cut([2], ['a', 'b', 'c'], [(1.0, 2.0), (1.0, 2.0)], 'flops'),
    },
    num_cores=2,
  )


def test_losses_of_one_m_that_differ_show(report):
  # Some have done more steps; the peer has weights of its own.
  report.measured[_LINGVO].losses.append(7.0)
  assert report.loss_spreads() == {1: 0.0, 4: pytest.approx(0.25)}
  assert 'agree to 2e-01 (M=4)' in speed_report.as_text(report)


def test_text_has_a_row_for_each_variant(report):
  text = speed_report.as_text(report)
  [row] = [r for r in text.splitlines() if r.startswith('| ours-gpipe-always ')]
  assert [cell.strip() for cell in row.split('|')[2:-1]] == [
    *('2', '4', '1.000', '±2475.0%', '3.00', '0.50', '75%', '94%'),
    *('70', '100', '1.00', '3.00'),
  ]
  # There is no Lingvo of M = 1, and no efficiency without a pipeline.
  [row] = [r for r in text.splitlines() if r.startswith('| plain ')]
  assert [cell.strip() for cell in row.split('|')[7:-2]] == [
    *('', '', '', '', '100', '1.00')
  ]
  assert 'K=2: a..b 50%, c 50% of the FLOPs' in text
  report.measured[_TORCH].version = 'PyTorch 9.9'
  assert '- PyTorch 9.9' in speed_report.as_text(report).splitlines()


def test_a_method_may_have_a_cut_of_its_own(report):
  own = Cut([1], ['a', 'b', 'c'], [(3.0, 6.0), (1.0, 2.0)], 'flops')
  report.cuts[2].own[_OURS.method] = own
  assert report.efficiency(_OURS)[1] == pytest.approx(16 / (2 * 13))
  text = speed_report.as_text(report)
  assert 'ours-gpipe-always K=2: a 75%, b..c 25% of the FLOPs' in text


def test_what_could_not_be_run_is_told(report):
  report.measured[_LINGVO].error = 'Traceback\nValueError: no shapes'
  report.measured[_OURS].memory_error = (
    '2 root error(s) found.\n  (0) INTERNAL: no output\n'
    '  (1) INTERNAL: another\n0 successful operations.'
  )
  text = speed_report.as_text(report)
  assert 'lingvo K=2 M=4 could not be run: ValueError: no shapes' in text
  assert '| lingvo' not in text
  # Of TensorFlow's errors the first is told.
  what = "ours-gpipe-always K=2 M=4's devices could not be measured: "
  assert f'{what}INTERNAL: no output\n' in f'{text}\n'


def test_json_has_every_step(report):
  report.measured[_NAIVE].error = 'no'
  value = json.loads(json.dumps(speed_report.as_json(report)))
  by_name = {own['name']: own for own in value['variants']}
  own = by_name['ours-gpipe-always']
  assert own['step_seconds'] == [1.0, 100.0, 1.0]
  assert (own['num_cells'], own['num_micro_batches']) == (2, 4)
  assert (own['to_lingvo'], own['efficiency']) == (0.5, 0.75)
  assert by_name['naive']['error'] == 'no'
  assert value['cuts']['2']['splits'] == [2]


_EQUAL = (1.0, 2.0)


@pytest.mark.parametrize(
  ('costs', 'schedule', 'recompute', 'num_micro_batches', 'num_cores', 'want'),
  [
    # Equal cells leave fill and drain.
    ([_EQUAL] * 4, 'gpipe', 'always', 12, 4, 12 / (12 + 4 - 1)),
    ([_EQUAL] * 4, '1f1b', 'never', 12, 4, 12 / (12 + 4 - 1)),
    # The last waits where it need not recompute: the first works 4 a
    # micro-batch, and waits 2 for the first one to return.
    ([_EQUAL] * 2, '1f1b', 'always', 10, 2, 10 * (4 + 3) / (2 * (10 * 4 + 2))),
    # The second of unequal cells is idle only while the first one starts and
    # ends.
    ([(1.0, 1.0), (3.0, 3.0)], '1f1b', 'never', 10, 2, 80 / (2 * (60 + 2))),
    # More devices than cores can fill the cores, but not with so few
    # micro-batches that only some devices have work.
    ([_EQUAL] * 4, 'gpipe', 'always', 1, 2, 0.5),
  ],
)
def test_the_bound_is_what_the_schedule_leaves(
  costs, schedule, recompute, num_micro_batches, num_cores, want
):
  case = cases.Case(
    *('', 'mlp', 4, 8, 120, len(costs), num_micro_batches),
    schedule=schedule,
    recompute=recompute,
  )
  found = speed_report.bound(costs, case, num_cores)
  assert found == pytest.approx(want)
