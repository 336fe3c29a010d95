# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from lingvo_gpipe.lingvo_ops import vocab as vocab_lib

_LINES = ['<s>', '</s>', '<unk>', 'a', 'two words', 'über', '♣']
_LINES_WITH_IDS = ['<S>\t3', '</S>\t5', '<UNK>\t7', 'a\t2', '♣\t-1']


def test_tokens_to_ids(ops, run):
  ids = run(
    lambda: ops.vocab_token_to_id(['♣', 'x', 'two words'], vocab=_LINES)
  )
  assert ids.dtype == np.int32
  assert ids.tolist() == [6, 2, 4]
  assert run(lambda: ops.vocab_token_to_id('a', vocab=_LINES)) == 3


def test_tokens_to_ids_of_the_vocabulary(ops, run):
  ids = run(
    lambda: ops.vocab_token_to_id(
      ['♣', 'a', 'x'], vocab=_LINES_WITH_IDS, load_token_ids_from_vocab=True
    )
  )
  assert ids.tolist() == [-1, 2, 7]


def test_ids_to_tokens(ops, run):
  tokens = run(lambda: ops.vocab_id_to_token([5, 0, 7, -1], vocab=_LINES))
  assert tokens.tolist() == ['über'.encode(), b'<s>', b'<unk>', b'<unk>']
  assert run(lambda: ops.vocab_id_to_token(3, vocab=_LINES)) == b'a'


def test_ids_of_the_vocabulary_to_tokens(ops, run):
  tokens = run(
    lambda: ops.vocab_id_to_token(
      [-1, 0, 3], vocab=_LINES_WITH_IDS, load_token_ids_from_vocab=True
    )
  )
  assert tokens.tolist() == ['♣'.encode(), b'<UNK>', b'<S>']


def test_which_tokens_are_in_the_vocabulary(ops, run):
  known = run(lambda: ops.token_in_vocab(['a', 'x', '<unk>'], vocab=_LINES))
  assert known.tolist() == [True, False, True]
  assert not run(lambda: ops.token_in_vocab('two', vocab=_LINES))


def test_empty_lines_do_not_count_and_a_later_line_wins(ops, run):
  lines = ['', 'a', '<s>', '', '</s>', '<unk>', 'a\tnote']
  assert run(lambda: ops.vocab_token_to_id('a', vocab=lines)) == 4
  assert run(lambda: ops.vocab_id_to_token(0, vocab=lines)) == b'a'


@pytest.mark.parametrize(
  ('lines', 'message'),
  [
    (['<s>', '</s>'], '<unk> is not found'),
    (['a'], '</?S> is not found'),
    (['<s>', '</s>', '<unk>', '</S>'], '</S> is found'),
  ],
)
def test_special_tokens_missing_or_in_both_cases_raise(
  ops, run, lines, message
):
  with pytest.raises(tf.errors.InvalidArgumentError, match=message):
    run(lambda: ops.vocab_token_to_id('a', vocab=lines))


def test_a_line_without_an_id_raises():
  with pytest.raises(tf.errors.InvalidArgumentError, match='token<tab>id'):
    vocab_lib.Vocab(['<s>'], load_token_ids=True)


def test_a_file_is_found_by_a_pattern_that_matches_it_alone(tmp_path):
  for name in ('a1', 'a2', 'b1'):
    (tmp_path / name).write_text('<s>\n</s>\n<unk>\nx\r\n')
  vocab = vocab_lib.Vocab.from_file(str(tmp_path / 'b*'))
  assert vocab.token_to_id[b'x\r'] == 3
  for pattern, count in (('a*', 2), ('c*', 0)):
    with pytest.raises(
      tf.errors.InvalidArgumentError, match=f'matched {count}'
    ):
      vocab_lib.Vocab.from_file(str(tmp_path / pattern))
