# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tools.benchmark import measured, memory, speed, speed_command, speed_report
from tools.benchmark.memory import predict
from tools.common import conditions
from tools.common.fresh import ProcessError


@pytest.fixture
def files(tmp_path):
  return [
    *('--json', str(tmp_path / 'found.json')),
    *('--markdown', str(tmp_path / 'found.md')),
  ]


def _read(files):
  with open(files[1]) as found, open(files[3]) as text:
    return json.load(found), text.read()


@pytest.fixture
def asked(monkeypatch):
  """What is asked for; the same is found whatever is measured."""
  asked = []

  def measure(case, of_case, plan, alive_only):
    asked.append((case.name, plan, of_case))
    cut = measured.Cut([4], ['a'] * 8, [(1.0, 2.0)] * 2, 'flops')
    found = {
      v: measured.Measured(
        [1.0], [1.0], [2.0], [3.0], [4], [5], [6], [7.0, 8.0]
      )
      for v in of_case
    }
    cuts = {v.num_cells: cut for v in of_case}
    return speed_report.CaseReport(case, found, cuts, num_cores=2)

  monkeypatch.setattr(speed, 'measure', measure)
  return asked


def test_speed_is_shown_and_written(asked, capsys, files):
  arguments = ['--case=wide', '--variants=lingvo,ours-1f1b-never']
  arguments += ['--rounds=2', '--cells=2,4', '--no_memory', *files]
  assert speed_command.main(arguments) == 0
  [(name, plan, of_case)] = asked
  assert (name, plan.rounds, plan.no_memory) == ('wide', 2, True)
  assert len(of_case) == 4
  found, text = _read(files)
  first = found['cases'][0]['variants'][0]
  assert (first['name'], first['step_median']) == ('lingvo', 2)
  assert '--case=wide' in found['command']
  assert text.count('| ours-1f1b-never ') == 2
  assert text.strip() in capsys.readouterr().out.replace('\n\n\n', '\n\n')


def test_the_peer_takes_an_interpreter_that_is_not_shown(
  asked, capsys, tmp_path
):
  assert speed_command.main(['--case=tiny']) == 0
  assert 'pip install torch' in capsys.readouterr().out
  assert all(v.engine != 'torch' for v in asked[0][2])
  with pytest.raises(SystemExit):
    speed_command.main(['--variants=torch-gpipe-never'])
  found = tmp_path / 'found.json'
  arguments = ['--torch_python', 'python', '--case=tiny', f'--json={found}']
  assert speed_command.main(arguments) == 0
  # A path of this machine is nothing to show.
  assert '--torch_python PYTHON --case=tiny' in found.read_text()
  assert any(v.engine == 'torch' for v in asked[1][2])
  assert asked[1][1].torch_python == 'python'


def test_memory_is_shown_and_written(monkeypatch, capsys, files):
  def measure(cases):
    return [
      memory.MemoryResult(case, (2**20,) * case.num_cells, tuple(predict(case)))
      for case in cases
    ]

  monkeypatch.setattr(memory, 'measure', measure)
  assert memory.main(['--micro_batches', '8,16', *files]) == 0
  found, text = _read(files)
  assert [
    (case['case']['schedule'], case['case']['num_micro_batches'])
    for case in found['cases']
  ] == [('gpipe', 8), ('gpipe', 16), ('1f1b', 8), ('1f1b', 16)]
  assert text.count('| 1f1b ') == 8
  assert text.strip() in capsys.readouterr().out


@pytest.mark.parametrize(
  ('command', 'argument', 'message'),
  [
    (speed_command, '--case=none', 'none is none of wide, long'),
    (speed_command, '--variants=none', 'none is none of lingvo'),
    (speed_command, '--rounds=0', '--rounds: 0 must be a whole'),
    (speed_command, '--one_core_steps=-1', 'number, 0 or more'),
    (speed_command, '--cells=2,x', '--cells: 2,x: use whole numbers'),
    (speed_command, '--micro_batches=7', 'micro_batches has 7'),
    (memory, '--schedules=none', 'none is none of gpipe'),
    (memory, '--micro_batches=5', 'not divide'),
    (memory, '--num_cells=0', '--num_cells: 0 must be'),
  ],
)
def test_mistakes_end_with_status_2(command, argument, message, refused):
  assert message in refused(command.main, [argument])


def test_a_failed_process_ends_with_status_1(monkeypatch, capsys):
  def fail(*unused):
    raise ProcessError('it ended')

  monkeypatch.setattr(speed, 'measure', fail)
  monkeypatch.setattr(memory, 'measure', fail)
  for command in (speed_command, memory):
    assert command.main([]) == 1
    assert 'it ended' in capsys.readouterr().err


def test_a_busy_machine_shows():
  machine = {**conditions.now(), 'load': 0.1}
  assert 'busy' not in conditions.describe(machine)
  assert 'busy' in conditions.describe({**machine, 'load': 3.0})
