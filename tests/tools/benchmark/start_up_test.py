# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

from tools.benchmark import start_up
from tools.benchmark.cases import Case


def test_starts_are_measured_and_shown_beside_lingvos(
  tmp_path, capsys, monkeypatch
):
  case = Case('mlp', 'mlp', 4, 16, 512, 2, 2)
  rows = [None, start_up.row(case, 'ours', 'lingvo')]
  monkeypatch.setattr(start_up, 'all_rows', lambda: rows)
  path = tmp_path / 'found.json'
  arguments = ['--rows=2', '--graphs=0', '--rounds=1']
  arguments += [f'--json={path}']
  assert start_up.main(arguments) == 0
  found = json.loads(path.read_text())['starts']
  assert [row['variant'] for row in found] == [
    'ours-1f1b-never K=2 M=2',
    'lingvo K=2 M=2',
  ]
  for row in found:
    assert row['building'] > row['step'] > 0 and row['first'] > row['step']
  ratio = found[0]['building'] / found[1]['building']
  assert f'= {ratio:.2f}' in capsys.readouterr().out


def test_a_small_model_without_a_pipeline_keeps_next_to_nothing_of_a_graph():
  pipeline, plain = start_up.measure_kept(4)
  # A graph has a few MB.
  assert plain < 2 * 2**20
  assert pipeline > -(2**20)


def test_the_report_compares_with_what_comes_second():
  row, *others = (start_up.all_rows()[i] for i in (0, -2, -1))
  times = [(3, 2, 0.5), (2, 4, 0.25), (1, 1.5, 0.125), (0.5, 1, 0.0625)]
  ways = [case for one in (row, *others) for case in one]
  starts = {
    way: dict(zip(('building', 'first', 'step'), seconds, strict=True))
    for way, seconds in zip(ways, times, strict=True)
  }
  text = start_up.as_text([row, *others], starts, [2**21, 2**19])
  cells = [
    [cell.strip() for cell in line.split('|')[1:-1]]
    for line in text.splitlines()
    if line.startswith('|')
  ]
  assert cells[2] == [
    *('mlp', '4', '32', '3.0 / 2.0 = 1.50', '2.0 / 4.0 = 0.50'),
    *('5.0 / 6.0 = 0.83', '0.500 / 0.250 = 2.00'),
  ]
  assert cells[3] == ['transformer', '4', '32', '1.0', '1.5', '2.5', '0.125']
  assert cells[4][1:3] == ['none', '']
  assert 'Kept of each graph: 2.00 MB, without a pipeline 0.50 MB.' in text


def test_what_cannot_be_measured_is_refused(refused):
  assert 'numbers from 1 to 7' in refused(start_up.main, ['--rows=8'])
