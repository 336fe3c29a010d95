# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import tensorflow as tf

from lingvo_gpipe.lingvo_ops import labels


def _make(run, **kwargs):
  rows = [[5, 6, 7], [], [8]]
  arguments = {
    'max_ids': 4,
    'maxlen': 4,
    'sos_id': 1,
    'eos_id': 2,
    'append_eos': True,
    **kwargs,
  }

  def build():
    ids = tf.ragged.constant(rows, tf.int32, ragged_rank=1)
    return tuple(labels.make_labels(ids, **arguments))

  return [output.tolist() for output in run(build)]


def test_targets_are_the_tokens_moved_ahead_and_the_end_is_a_label(run):
  tokens, targets, paddings = _make(run)
  assert tokens == [[1, 5, 6, 7], [1, 2, 2, 2], [1, 8, 2, 2]]
  assert targets == [[5, 6, 7, 2], [2, 2, 2, 2], [8, 2, 2, 2]]
  assert paddings == [[0, 0, 0, 0], [0, 1, 1, 1], [0, 0, 1, 1]]


def test_without_append_eos_the_end_is_padding(run):
  paddings = _make(run, append_eos=False)[2]
  assert paddings == [[0, 0, 0, 1], [1, 1, 1, 1], [0, 1, 1, 1]]


def test_max_ids_cuts_sequences(run):
  tokens, targets, paddings = _make(run, max_ids=2, maxlen=3)
  assert tokens[0] == [1, 5, 6]
  assert targets[0] == [5, 6, 2]
  assert paddings[0] == [0, 0, 0]


def test_a_sequence_as_long_as_the_row_has_no_end(run):
  tokens, targets, paddings = _make(run, max_ids=2, maxlen=2)
  assert (tokens[0], targets[0], paddings[0]) == ([1, 5], [5, 6], [0, 0])


def test_without_padding_rows_end_after_the_longest_sequences_end(run):
  for output in _make(run, maxlen=9, max_ids=9, pad_to_maxlen=False):
    assert [len(row) for row in output] == [4, 4, 4]


def test_a_length_greater_than_the_row_raises(run):
  with pytest.raises(tf.errors.InvalidArgumentError, match='do not match'):
    run(
      lambda: labels.check_matrix_and_lengths([[1, 2], [4, 5]], [1, 3]).values
    )


def test_not_one_length_a_row_raises(run):
  with pytest.raises(ValueError, match='do not match'):
    run(lambda: labels.check_matrix_and_lengths([[1, 2], [4, 5]], [1]).values)


@pytest.mark.parametrize(
  ('ids', 'lengths'), [([1, 2], [1]), ([[1, 2]], [[1]]), ([[1, 2]], 1)]
)
def test_other_ranks_raise(run, ids, lengths):
  with pytest.raises(ValueError, match='must be a'):
    run(lambda: labels.check_matrix_and_lengths(ids, lengths).values)


def test_a_negative_length_counts_as_0(run):
  values = run(
    lambda: labels.check_matrix_and_lengths([[1, 2], [3, 4]], [-1, 1]).values
  )
  assert values.tolist() == [3]
