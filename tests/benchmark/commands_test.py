# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from lingvo_gpipe.benchmark import (
  conditions,
  memory,
  memory_command,
  process_memory,
  speed,
  speed_command,
)
from lingvo_gpipe.benchmark.child_process import ChildError
from lingvo_gpipe.benchmark.memory_prediction import predict

pytestmark = pytest.mark.skipif(
  not process_memory.available(), reason='/proc takes Linux'
)


@pytest.fixture
def files(tmp_path):
  return [
    *('--json', str(tmp_path / 'found.json')),
    *('--markdown', str(tmp_path / 'found.md')),
  ]


def _read(files):
  with open(files[1]) as found, open(files[3]) as text:
    return json.load(found), text.read()


def test_speed_is_shown_and_written(monkeypatch, capsys, files):
  def measure(case, variants, plan, say):
    assert (case.name, plan.rounds) == ('wide', 2)
    return {
      v: speed.Measured([1.0], [2.0], [3.0], [4], [5], 6, [7.0, 8.0])
      for v in variants
    }

  monkeypatch.setattr(speed, 'measure', measure)
  arguments = ['--case', 'wide', '--variants', 'lingvo,ours-1f1b-never']
  assert speed_command.main([*arguments, '--rounds', '2', *files]) == 0
  found, text = _read(files)
  assert found['cases'][0]['variants']['lingvo']['step_median'] == 2
  assert '| ours-1f1b-never ' in text
  assert text.strip() in capsys.readouterr().out.replace('\n\n\n', '\n\n')


def test_memory_is_shown_and_written(monkeypatch, capsys, files):
  def measure(cases):
    return [
      memory.MemoryResult(case, (2**20,) * case.num_cells, tuple(predict(case)))
      for case in cases
    ]

  monkeypatch.setattr(memory, 'measure', measure)
  assert memory_command.main(['--micro_batches', '8,16', *files]) == 0
  found, text = _read(files)
  assert [
    (case['case']['schedule'], case['case']['num_micro_batches'])
    for case in found['cases']
  ] == [('gpipe', 8), ('gpipe', 16), ('1f1b', 8), ('1f1b', 16)]
  assert text.count('| 1f1b ') == 8
  assert text.strip() in capsys.readouterr().out


@pytest.mark.parametrize(
  ('command', 'arguments', 'message'),
  [
    (speed_command, ['--case', 'none'], "no case 'none'"),
    (speed_command, ['--variants', 'none'], "no variant 'none'"),
    (speed_command, ['--rounds', '0'], 'rounds is 0'),
    (memory_command, ['--schedules', 'none'], "no schedule 'none'"),
    (memory_command, ['--micro_batches', '5'], 'does not divide'),
    (memory_command, ['--micro_batches', '0'], 'num_micro_batches is 0'),
    (memory_command, ['--num_cells', '0'], 'num_cells is 0'),
  ],
)
def test_mistakes_end_with_status_2(capsys, command, arguments, message):
  with pytest.raises(SystemExit) as ended:
    command.main(arguments)
  assert ended.value.code == 2
  assert message in capsys.readouterr().err


def test_a_failed_process_ends_with_status_1(monkeypatch, capsys):
  def fail(*unused):
    raise ChildError('it ended')

  monkeypatch.setattr(speed, 'measure', fail)
  monkeypatch.setattr(memory, 'measure', fail)
  for command in (speed_command, memory_command):
    assert command.main([]) == 1
    assert 'it ended' in capsys.readouterr().err


def test_a_busy_machine_shows():
  machine = {**conditions.now(), 'load': 0.1}
  assert 'busy' not in conditions.describe(machine)
  assert 'busy' in conditions.describe({**machine, 'load': 3.0})
