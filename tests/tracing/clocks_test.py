# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.tracing.clocks import Message, align


def test_clocks_that_break_nothing_are_left_alone():
  messages = [Message('a', 1.0, 'b', 1.1), Message('b', 2.0, 'a', 2.1)]
  assert align(['a', 'b'], messages) == {'a': 0.0, 'b': 0.0}


@pytest.mark.parametrize('ahead', [-5.0, 3.0])
def test_a_wrong_clock_is_set_to_the_middle_of_what_is_possible(ahead):
  # Each message takes 0.25, by the clock of b plus `ahead`.
  messages = [
    Message('a', 1.0, 'b', 1.25 + ahead),
    Message('b', 2.0 + ahead, 'a', 2.25),
    Message('a', 3.0, 'b', 4.0 + ahead),
  ]
  assert align(['a', 'b'], messages)['b'] == pytest.approx(-ahead)


def test_with_messages_one_way_a_clock_moves_no_more_than_it_must():
  messages = [Message('a', 1.0, 'b', 0.25), Message('a', 2.0, 'b', 1.5)]
  assert align(['a', 'b'], messages) == {'a': 0.0, 'b': 0.75}
  assert align(['b', 'a'], messages) == {'b': 0.0, 'a': -0.75}


def test_clocks_are_aligned_along_the_pipeline():
  messages = [
    Message('a', 0.0, 'b', 9.0),
    Message('b', 9.5, 'a', 0.5),
    Message('b', 10.0, 'c', 20.0),
    Message('c', 20.5, 'b', 10.5),
    Message('x', 0.0, 'x', -1.0),
  ]
  shifts = align(['a', 'b', 'c', 'x'], messages)
  assert shifts == pytest.approx({'a': 0, 'b': -9.0, 'c': -19.0, 'x': 0})
