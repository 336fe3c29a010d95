# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The command, its tables and its picture, on stated costs."""

import dataclasses
import json
import sys

import pytest
from stated_costs import equal_layers

from tools.paper import facts, model_costs, tables

_COLUMNS = {column.model: column for column in facts.TABLE_1}


def _costs(model, precision):
  """Layers alike, enough for K, with the published number of parameters."""
  del precision
  num_layers, parameters = 16, 160_000
  if model in _COLUMNS:
    num_layers = max(num_layers, _COLUMNS[model].num_devices)
    parameters = round(_COLUMNS[model].parameters)
  found = equal_layers(num_layers)
  layers = [dataclasses.replace(layer, parameters=0) for layer in found.layers]
  layers[0] = dataclasses.replace(layers[0], parameters=parameters)
  return dataclasses.replace(found, layers=tuple(layers))


@pytest.fixture
def stated(monkeypatch):
  monkeypatch.setattr(tables, 'registered_costs', _costs)


def _sections(text):
  found = {}
  for line in text.splitlines():
    if line.startswith('#'):
      lines = found.setdefault(line.lstrip('# '), [])
    elif found:
      lines.append(line)
  return found


def _cells(lines):
  rows = [line for line in lines if line.startswith('|')][2:]
  return [[cell.strip() for cell in row.split('|')[1:-1]] for row in rows]


def test_all_cells_of_the_three_tables_are_printed(stated, capsys, tmp_path):
  page = tmp_path / 'paper.md'
  assert tables.main(['--markdown', str(page)]) == 0
  printed = capsys.readouterr().out
  assert page.read_text(encoding='utf-8') == printed
  sections = _sections(printed)
  for column, sizes, activations in zip(
    facts.TABLE_1,
    _cells(sections['Table 1: parameters and their memory']),
    _cells(sections['Table 1: peak activation memory']),
    strict=True,
  ):
    assert sizes[0] == activations[0] == column.name
    assert float(sizes[6]) == column.memories[0]
    assert activations[2].startswith(f'{column.memories[1]:g} ')
  for half in facts.TABLES_2_AND_3:
    rows = _cells(sections[f'{half.table}: {half.name}'])
    published = {(int(r[0]), int(r[1])): float(r[2]) for r in rows}
    assert published == pytest.approx(dict(half.published))
    for row in rows:
      shares = [float(share.rstrip('%')) for share in row[6:12]]
      assert sum(shares) == pytest.approx(100, abs=0.5)


def test_one_table_of_some_models(stated, capsys, tmp_path):
  figures = tmp_path / 'figures.json'
  argv = ['--tables', '1', '--models', 'lm.', '--json', str(figures)]
  assert tables.main(argv) == 0
  text = capsys.readouterr().out
  assert '--tables 1 --models lm.' in text
  assert 'AmoebaNet-D(' not in text
  assert 'Throughput' not in text
  found = json.loads(figures.read_text(encoding='utf-8'))
  assert found['throughput'] == []
  assert len(found['table_1']) == 5
  assert found['table_1'][0]['gradient_bytes'] == 4 * 282_200_000


@pytest.mark.parametrize(
  ('argv', 'said'),
  [
    (['--tables', '4'], '--tables=4: there are tables 1, 2 and 3'),
    (['--models', 'resnet'], '--models=resnet: no name contains that'),
    (['--tables=2', '--models=Transformer13'], 'lm.paper.Transformer48'),
    (['--json=/nowhere/x'], '--json=/nowhere/x: there is no such folder'),
  ],
)
def test_what_is_not_there_is_an_error(argv, said, refused):
  assert said in refused(tables.main, argv)


def test_a_picture_without_matplotlib_is_an_error_before_anything_is_traced(
  monkeypatch, refused
):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  assert "pip install 'lingvo_gpipe[pictures]'" in refused(
    tables.main, ['--picture', 'x.png']
  )


def test_a_picture_has_all_that_was_planned(stated, capsys, tmp_path):
  pytest.importorskip('matplotlib')
  file = tmp_path / 'paper.png'
  argv = ['--models', 'Transformer24', '--picture', str(file)]
  assert tables.main(argv) == 0
  assert file.read_bytes().startswith(b'\x89PNG')


def test_a_registered_model_has_the_costs_of_its_micro_batch():
  import model_params  # noqa: F401  (lets Lingvo find the models)

  found = model_costs.registered_costs('lm.paper.Transformer24', 'float32')
  assert len(found.layers) == 26
  assert found.examples == 1
  # 1024 tokens, 2048 float32 numbers each.
  assert found.layers[1].output_bytes == 1024 * 2048 * 4
