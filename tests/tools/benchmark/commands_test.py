# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from tools.benchmark import memory, speed, speed_command
from tools.benchmark.memory import predict
from tools.common import conditions
from tools.common.fresh import ProcessError


def test_the_peer_takes_an_interpreter_that_is_not_shown(
  monkeypatch, capsys, refused
):
  asked = []

  def measure(case, variants, *unused):
    asked.append('torch' in [variant.engine for variant in variants])
    raise ProcessError('it ended')

  monkeypatch.setattr(speed, 'measure', measure)
  assert speed_command.main(['--case=tiny']) == 1
  said = capsys.readouterr()
  assert 'pip install torch' in said.out and 'it ended' in said.err
  flags = ['--variants=torch-gpipe-never']
  assert 'pip install torch' in refused(speed_command.main, flags)
  assert speed_command.main(['--torch_python', 'python', '--case=tiny']) == 1
  # A path of this machine is nothing to show.
  assert '--torch_python PYTHON --case=tiny' in capsys.readouterr().out
  assert asked == [False, True]


def test_memory_is_shown_and_written(monkeypatch, capsys, tmp_path):
  def measure(cases):
    return [
      memory.MemoryResult(case, (2**20,) * case.num_cells, tuple(predict(case)))
      for case in cases
    ]

  monkeypatch.setattr(memory, 'measure', measure)
  files = [f'--json={tmp_path / "json"}', f'--markdown={tmp_path / "md"}']
  assert memory.main(['--micro_batches', '8,16', *files]) == 0
  found = json.loads((tmp_path / 'json').read_text())
  text = (tmp_path / 'md').read_text()
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


def test_a_busy_machine_shows():
  machine = {**conditions.now(), 'load': 0.1}
  assert 'busy' not in conditions.describe(machine)
  assert 'busy' in conditions.describe({**machine, 'load': 3.0})
