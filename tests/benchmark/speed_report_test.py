# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from lingvo_gpipe.benchmark import cases, speed, speed_report

_OURS = cases.Variant('ours')
_ALONE = cases.Variant('ours', one_core=True)
_CASE = cases.Case('some', 4, 8, 8, 2, 4)


def _measured(step, build, peak, loss=2.0):
  return speed.Measured(
    build_seconds=[build],
    step_seconds=[step, 100 * step, step],
    cpu_seconds=[step] * 3,
    idle_bytes=[100 * 2**20],
    peak_bytes=[peak * 2**20],
    ops=12,
    losses=[3.0, loss],
  )


@pytest.fixture
def report():
  return speed_report.CaseReport(
    _CASE,
    {
      cases.BASELINE: _measured(2.0, 4.0, 300),
      _OURS: _measured(1.0, 2.0, 200, loss=1.5),
      _ALONE: _measured(1.5, 2.0, 200),
    },
  )


def test_ratios_are_of_medians(report):
  assert report.ratios(_OURS) == {
    'step': 0.5,
    'build': 0.5,
    'peak': pytest.approx(2 / 3),
    'above_idle': 0.5,
  }


def test_efficiency_is_against_one_core_and_the_bound(report):
  [found] = report.efficiencies()
  assert found.variant == _OURS
  assert found.value == 0.75
  assert found.of_bound == pytest.approx(0.75 / (4 / 5))


def test_losses_that_differ_show(report):
  assert report.loss_spread() == pytest.approx(0.25)
  assert 'agree to 2e-01' in speed_report.as_text(report)


def test_text_has_a_row_for_each_variant(report):
  text = speed_report.as_text(report)
  [row] = [r for r in text.splitlines() if r.startswith('| ours-gpipe-always ')]
  assert [cell.strip() for cell in row.split('|')[2:-1]] == [
    '1.000', '0.50', '1.000', '2.00', '0.50', '200', '0.67', '100', '0.50',
    '12',
  ]  # fmt: skip
  assert '75%, 94% of the bound 0.800' in text


def test_without_lingvo_there_are_no_ratios():
  report = speed_report.CaseReport(_CASE, {_OURS: _measured(1, 1, 101)})
  assert report.ratios(_OURS) == {}
  assert 'ours-gpipe-always' in speed_report.as_text(report)


def test_json_has_every_step(report):
  value = json.loads(json.dumps(speed_report.as_json(report)))
  own = value['variants'][_OURS.name]
  assert own['step_seconds'] == [1.0, 100.0, 1.0]
  assert own['ratios']['step'] == 0.5
  assert value['efficiencies'][_OURS.name]['value'] == 0.75
