# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Orders that were found are kept in the file of costs."""

import json

import pytest
import random_orders

from lingvo_gpipe import schedules
from lingvo_gpipe.costing.kept_orders import with_known_order


def _problem():
  return random_orders.problem(3)


def _forbid(monkeypatch):
  def search(problem):
    raise AssertionError('There is no need to look for it.')

  monkeypatch.setattr(schedules, 'find_best_order', search)


def test_the_order_is_looked_for_once(tmp_path, monkeypatch):
  path = str(tmp_path / 'costs.json')
  found = schedules.find_best_order(_problem())
  problem = with_known_order(_problem(), path)
  assert problem.known == found.schedule
  again = schedules.find_best_order(problem)
  assert (again.schedule, again.time, again.bound) == (
    found.schedule,
    found.time,
    found.bound,
  )
  _forbid(monkeypatch)
  assert with_known_order(_problem(), path) == problem


def test_another_problem_has_another_order(tmp_path):
  path = str(tmp_path / 'costs.json')
  with_known_order(_problem(), path)
  other = with_known_order(random_orders.problem(4), path)
  assert (
    other.known == schedules.find_best_order(random_orders.problem(4)).schedule
  )
  assert len(json.loads((tmp_path / 'costs.json').read_text())['orders']) == 2


def test_without_a_file_nothing_is_kept():
  assert with_known_order(_problem(), '') == _problem()


def test_what_another_process_wrote_first_holds(tmp_path, monkeypatch):
  path = tmp_path / 'costs.json'
  with_known_order(_problem(), str(path))
  content = path.read_text()
  path.unlink()
  search = schedules.find_best_order

  def slow_search(problem):
    found = search(problem)
    path.write_text(content.replace('"auto"', '"theirs"'))
    return found

  monkeypatch.setattr(schedules, 'find_best_order', slow_search)
  assert with_known_order(_problem(), str(path)).known.name == 'theirs'


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
