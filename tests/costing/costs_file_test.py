# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import random_orders

from lingvo_gpipe import schedules
from lingvo_gpipe.costing.costs_file import with_known_order


def test_each_order_is_looked_for_once(tmp_path, monkeypatch):
  path = tmp_path / 'costs.json'
  for seed in (3, 4):
    problem = random_orders.problem(seed)
    found = schedules.find_best_order(problem)
    known = with_known_order(problem, str(path))
    assert known.known == found.schedule
    assert schedules.find_best_order(known) == found
  assert len(json.loads(path.read_text())['orders']) == 2
  monkeypatch.setattr(
    schedules, 'find_best_order', lambda _: pytest.fail('looks for it again')
  )
  assert with_known_order(problem, str(path)) == known
  # Without a file nothing is kept.
  assert with_known_order(problem, '') == problem


def test_what_another_process_wrote_first_holds(tmp_path, monkeypatch):
  path = tmp_path / 'costs.json'
  problem = random_orders.problem(3)
  with_known_order(problem, str(path))
  content = path.read_text()
  path.unlink()
  search = schedules.find_best_order

  def slow_search(problem):
    found = search(problem)
    path.write_text(content.replace('"auto"', '"theirs"'))
    return found

  monkeypatch.setattr(schedules, 'find_best_order', slow_search)
  assert with_known_order(problem, str(path)).known.name == 'theirs'


def _for_others():
  made = schedules.make_schedule('zb_h1', (1, 0), 2)
  return json.loads(schedules.to_json(made))


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (lambda order: order.pop('device_tasks'), "has no 'device_tasks'"),
    (lambda order: order['device_tasks'][0].pop(), 'lacks'),
    (lambda order: order.update(_for_others()), 'another pipeline'),
  ],
)
def test_a_damaged_order_is_refused(change, words, tmp_path):
  path = tmp_path / 'costs.json'
  problem = schedules.OrderProblem((0, 1), 2, (1, 2), (1, 2), (1, 1))
  with_known_order(problem, str(path))
  content = json.loads(path.read_text())
  (order,) = content['orders'].values()
  change(order)
  path.write_text(json.dumps(content))
  with pytest.raises(schedules.ScheduleError, match=words):
    schedules.find_best_order(with_known_order(problem, str(path)))
