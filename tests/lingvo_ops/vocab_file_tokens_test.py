# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import tensorflow as tf


@pytest.fixture
def write(tmp_path):
  def write(text, name='vocab'):
    (tmp_path / name).write_text(text, encoding='utf-8')
    return str(tmp_path / name)

  return write


@pytest.fixture
def vocab(write):
  return write('<unk>\n<s>\n</s>\na\nb\nc d\nü\n')


@pytest.fixture
def vocab_with_ids(write):
  return write('<S>\t1\n</S>\t2\n<UNK>\t3\na\t10\nb\t11\n')


def _labels(run, build):
  return [output.tolist() for output in run(lambda: tuple(build()))]


def test_words_to_ids(ops, run, vocab_with_ids):
  tokens, targets, paddings = _labels(
    run,
    lambda: ops.str_to_vocab_tokens(
      ['a b x', '  b  ', ''], vocab_filepath=vocab_with_ids, maxlen=5
    ),
  )
  assert tokens == [[1, 10, 11, 3, 2], [1, 11, 2, 2, 2], [1, 2, 2, 2, 2]]
  assert targets == [[10, 11, 3, 2, 2], [11, 2, 2, 2, 2], [2, 2, 2, 2, 2]]
  assert paddings == [[0, 0, 0, 0, 1], [0, 0, 1, 1, 1], [0, 1, 1, 1, 1]]


def test_line_numbers_as_ids_and_rows_no_longer_than_needed(ops, run, vocab):
  tokens, targets, paddings = _labels(
    run,
    lambda: ops.str_to_vocab_tokens(
      ['ü a', 'b'],
      vocab_filepath=vocab,
      load_token_ids_from_vocab=False,
      append_eos=False,
      pad_to_maxlen=False,
    ),
  )
  assert tokens == [[1, 6, 3], [1, 4, 2]]
  assert targets == [[6, 3, 2], [4, 2, 2]]
  assert paddings == [[0, 0, 1], [0, 1, 1]]


def test_more_tokens_than_maxlen_leave_no_room_for_the_end(ops, run, vocab):
  outputs = _labels(
    run,
    lambda: ops.str_to_vocab_tokens(
      ['a b a b'],
      vocab_filepath=vocab,
      load_token_ids_from_vocab=False,
      maxlen=3,
    ),
  )
  assert outputs == [[[1, 3, 4]], [[3, 4, 3]], [[0, 0, 0]]]


@pytest.mark.parametrize(
  ('text', 'delimiter', 'expected'),
  [
    ('a_b', '_', [3, 4]),
    ('a_ _b', '_', [3, 4]),
    ('a c d_c d', '_', [0, 5]),
    ('ab', '', [3, 4]),
    ('a b', '', [3, 0, 4]),
    ('a_b.c d', '._', [3, 4, 5]),
    ('a▁b', '▁', [3, 4]),
    ('a\tb', ' ', [0]),
    (' \t a', ' ', [3]),
  ],
)
def test_delimiters(ops, run, vocab, text, delimiter, expected):
  targets = _labels(
    run,
    lambda: ops.str_to_vocab_tokens(
      [text],
      vocab_filepath=vocab,
      load_token_ids_from_vocab=False,
      maxlen=len(expected),
      delimiter=delimiter,
    ),
  )[1]
  assert targets == [expected]


def test_ids_to_joined_tokens(ops, run, vocab):
  for separator, expected in (('', b'ac d'), ('.', b'a.c d')):
    strings = run(
      lambda s=separator: ops.ngram_id_to_token(
        [[3, 5, 9], [9, 3, 3]],
        [2, 1],
        ngram_vocab_filepath=vocab,
        ngram_separator=s,
      )
    )
    assert strings.tolist() == [expected, b'<unk>']


def test_words_to_byte_pair_ids_and_back(ops, run, write):
  words = write('GIVE 3,4\nME 5\nPENNY 6,7,8\n', 'words')
  codes = write('<unk>\n<s>\n</s>\nGI@@ x\nVE\nME\nP@@\nE@@NN@@\nY\n', 'codes')

  def build():
    tokens, targets, paddings = ops.bpe_words_to_ids(
      ['GIVE ME', 'PENNY X ME', 'ME GIVE PENNY'],
      tokenization_filepath=words,
      maxlen=5,
    )
    lengths = tf.cast(tf.reduce_sum(1.0 - paddings, 1), tf.int32)
    strings = ops.bpe_ids_to_words(targets, lengths, vocab_filepath=codes)
    return tokens, targets, paddings, strings

  tokens, targets, paddings, strings = run(build)
  assert tokens.tolist() == [
    [1, 3, 4, 5, 2],
    [1, 6, 7, 8, 5],
    [1, 5, 3, 4, 6],
  ]
  assert targets.tolist() == [
    [3, 4, 5, 2, 2],
    [6, 7, 8, 5, 2],
    [5, 3, 4, 6, 7],
  ]
  assert paddings.tolist() == [
    [0, 0, 0, 0, 1],
    [0, 0, 0, 0, 0],
    [0, 0, 0, 0, 0],
  ]
  assert strings.tolist() == [
    b'GIVE ME </s> ',
    b'PENN@@Y ME </s> ',
    b'ME GIVE PENN@@',
  ]


def test_an_id_that_is_no_byte_pair_raises(stand_in_ops, run, write):
  codes = write('a\nb\n')
  with pytest.raises(tf.errors.InvalidArgumentError, match='not in'):
    run(lambda: stand_in_ops.bpe_ids_to_words([[2]], [1], vocab_filepath=codes))


def test_a_word_without_ids_raises(stand_in_ops, write):
  words = write('GIVE\n')
  with pytest.raises(ValueError, match='GIVE'):
    stand_in_ops.bpe_words_to_ids(['GIVE'], tokenization_filepath=words)


def test_a_maxlen_that_is_not_positive_raises(stand_in_ops, vocab):
  with pytest.raises(ValueError, match='maxlen=0'):
    stand_in_ops.str_to_vocab_tokens(['a'], vocab_filepath=vocab, maxlen=0)
