# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe import schedules
from lingvo_gpipe.planner import plan_command, schedule_command
from lingvo_gpipe.schedules import registry


def test_it_draws_a_schedule_and_says_its_figures(capsys):
  argv = ['schedule', 'zb_h1', '--devices=3', '--num_micro_batches=4']
  assert plan_command.main(argv) == 0
  text = capsys.readouterr().out
  assert 'device 2  .  . F0 B0 F1 B1 F2 B2 W0 F3 B3 W1 W2 W3' in text
  assert 'Makespan 14, bubble 14.3%. Peak memory of each device' in text
  assert 'cell: 3 3 3.' in text


def test_what_it_writes_it_compares(tmp_path, capsys):
  path = tmp_path / 'mine.json'
  argv = ['zb_v', '--devices=2', '--num_micro_batches=4', f'--json={path}']
  assert schedule_command.main(argv) == 0
  assert schedules.read(str(path)).name == 'zb_v'
  # The other one gets the same devices and micro-batches.
  assert schedule_command.main([f'file:{path}', '1f1b', '--forward=2']) == 0
  text = capsys.readouterr().out
  assert '1f1b: cells 2, devices 2, micro-batches 4' in text
  assert f'file:{path} takes 17 and 1f1b takes 20' in text


def test_costs_of_each_cell_and_modules(tmp_path, monkeypatch, capsys):
  (tmp_path / 'their_orders.py').write_text(
    'from lingvo_gpipe import schedules\n'
    'schedules.register_schedule(\n'
    "  'theirs', lambda d, m: schedules.make_schedule('zb_h1', d, m))\n"
  )
  monkeypatch.setattr(registry, 'registered', {})
  monkeypatch.syspath_prepend(tmp_path)
  argv = ['theirs', 'auto', '--module=their_orders', '--devices=2']
  argv += ['--forward=1,2', '--transfer=0.5', '--num_micro_batches=3']
  assert schedule_command.main(argv) == 0
  assert 'Critical path of theirs' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('argv', 'message'),
  [
    (['zigzag'], "no schedule 'zigzag'; it must be one of 'gpipe'"),
    (['file:no.json'], 'no.json: it cannot be read'),
    (['gpipe', '--forward=1,2'], '--forward has 2 numbers; give one, or 4.'),
    (['gpipe', '--module=no_such'], "No module named 'no_such'"),
    (
      ['zb_v', '--cells_per_device=1'],
      '4 cells, which are on 2 devices, but --devices is 4',
    ),
  ],
)
def test_mistakes_end_with_a_line_and_status_2(argv, message, capsys):
  assert schedule_command.main(argv) == 2
  assert message in capsys.readouterr().err


def test_an_invalid_file_is_drawn_with_its_place_marked(tmp_path, capsys):
  path = tmp_path / 'a.csv'
  path.write_text('0B0,0F0\n')
  assert schedule_command.main([f'file:{path}']) == 2
  assert 'device 0 !B0.0' in capsys.readouterr().err
