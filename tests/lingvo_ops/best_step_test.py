# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import os

import numpy as np
import pytest
import tensorflow as tf

_TAG = 'bleu/dev'


@pytest.fixture
def write_history(tmp_path):
  def write(*records):
    path = tmp_path / 'history.txt'
    with open(path, 'a') as f:
      f.writelines(f'{step} {score:f}\n' for step, score in records)
    return str(path)

  return write


@pytest.fixture
def write_events(tmp_path):
  def write(*records, name='a'):
    path = str(tmp_path / f'events.out.tfevents.{name}')
    with tf.io.TFRecordWriter(path) as writer:
      writer.write(
        tf.compat.v1.Event(file_version='brain.Event:2').SerializeToString()
      )
      for step, values in records:
        event = tf.compat.v1.Event(step=step)
        for tag, value in values.items():
          event.summary.value.add(tag=tag, simple_value=value)
        writer.write(event.SerializeToString())
    return path

  return write


@pytest.fixture
def best_step(ops, run):
  """best_step(file, ...): the best and the last step, as a list."""
  return lambda *args, **how: list(run(lambda: ops.best_step(*args, **how)))


_FALLING = ((10, 3.0), (20, 2.75), (30, 2.5), (40, 2.25))
_MIXED = ((30, 2.0), (10, 3.0), (30, 0.0), (20, 2.5))


@pytest.mark.parametrize(
  ('history', 'how', 'want'),
  [
    (((10, 3.0), (20, 1.0), (30, 2.0)), {}, [20, 30]),
    (((10, 3.0), (20, 5.0), (30, 2.0)), {'minimize': False}, [20, 30]),
    # Only an improvement by more than tol counts.
    (_FALLING, {'tol': 0.5}, [40, 40]),
    (_FALLING, {'tol': 0.75}, [10, 40]),
    (_FALLING, {'tol': 0.25}, [30, 40]),
    # Of equal scores the first is best.
    (((10, 1.0), (20, 1.0)), {}, [10, 20]),
    # Records count in the order of steps, and each step once.
    (_MIXED, {}, [30, 30]),
    ((*_MIXED, (40, 1.0)), {'tol': 1.0}, [40, 40]),
    # Step 0 is best only while it is alone.
    (((0, 1.0),), {}, [0, 0]),
    (((0, 1.0), (10, 5.0)), {}, [10, 10]),
    ((), {}, [0, 0]),
  ],
)
def test_the_best_and_the_last_step(
  best_step, write_history, history, how, want
):
  best = best_step(write_history(*history), **how)
  assert best == want
  assert {step.dtype for step in best} == {np.dtype('int64')}


@pytest.mark.parametrize('name', ['', 'none.txt', 'none/none.txt'])
def test_without_a_file_there_is_no_step(best_step, tmp_path, name):
  assert best_step(str(tmp_path / name) if name else '') == [0, 0]


def test_the_history_is_read_anew_in_every_run(ops, write_history):
  path = write_history((10, 3.0))
  with tf.Graph().as_default():
    best = ops.best_step(path)
    with tf.compat.v1.Session() as session:
      assert list(session.run(best)) == [10, 10]
      write_history((20, 2.0))
      assert list(session.run(best)) == [20, 20]
      os.remove(path)
      assert list(session.run(best)) == [0, 0]


def test_the_path_is_no_pattern(best_step, tmp_path):
  for name, step in (('h[1]?.txt', 10), ('h1x.txt', 20)):
    (tmp_path / name).write_text(f'{step} 1.0\n')
  assert best_step(str(tmp_path / 'h[1]?.txt')) == [10, 10]


@pytest.mark.parametrize('line', ['10', '10 1.0 x', 'ten 1.0', '10 one'])
def test_a_malformed_line_raises(stand_in_ops, run, tmp_path, line):
  path = tmp_path / 'history.txt'
  path.write_text(f'5 1.0\n{line}\n')
  with pytest.raises(tf.errors.InvalidArgumentError):
    run(lambda: stand_in_ops.best_step(str(path)))


def test_a_negative_tol_raises(stand_in_ops):
  with pytest.raises(ValueError, match='tol=-1'):
    stand_in_ops.best_step('history.txt', tol=-1.0)


@pytest.mark.parametrize(
  ('metric', 'minimize', 'want'),
  [(_TAG, False, [20, 30]), (_TAG, True, [30, 30]), ('none', True, [0, 0])],
)
def test_event_files_are_searched_for_the_metric(
  best_step, write_events, metric, minimize, want
):
  path = write_events(
    (10, {_TAG: 0.5, 'other': 9.0}),
    (15, {'other': 8.0}),
    (20, {'other': 7.0, _TAG: 0.75}),
    (30, {_TAG: 0.25}),
  )
  assert best_step(path, minimize=minimize, metric=metric) == want


@pytest.mark.parametrize(('end', 'want'), [('*', [30, 30]), ('none*', [0, 0])])
def test_all_event_files_that_match_count(best_step, write_events, end, want):
  write_events((10, {_TAG: 2.0}), (20, {_TAG: 3.0}), name='a')
  path = write_events((30, {_TAG: 1.0}), name='b')
  assert best_step(path[:-1] + end, metric=_TAG) == want


def test_a_half_written_record_does_not_count(best_step, write_events):
  path = write_events((10, {_TAG: 2.0}), (20, {_TAG: 1.0}))
  for cut in (1, 5, 20):
    with open(path, 'rb+') as f:
      f.truncate(os.path.getsize(path) - cut)
    assert best_step(path, metric=_TAG) == [10, 10]
