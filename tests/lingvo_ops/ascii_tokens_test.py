# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import random
import string

import pytest
import tensorflow as tf


def _target_ids(ops, run, texts, **kwargs):
  outputs = run(lambda: tuple(ops.ascii_to_token_id(texts, **kwargs)))
  return [output.tolist() for output in outputs]


def test_characters_and_special_tokens_have_lingvos_ids(ops, run):
  text = "Hi there, it's <noise> 1:00<epsilon>"
  (ids,) = _target_ids(ops, run, [text], maxlen=31)[1]
  assert ids == [
    *[12, 13, 3, 24, 12, 9, 22, 9, 58, 3, 13, 24, 32, 23, 3],
    *[4, 3, 40, 34, 39, 39, 73, 2, 2, 2, 2, 2, 2, 2, 2, 2],
  ]


def test_rows_are_cut_and_end_with_the_end(ops, run):
  tokens, targets, paddings = _target_ids(ops, run, ['abcdef', 'a'], maxlen=4)
  assert tokens == [[1, 5, 6, 7], [1, 5, 2, 2]]
  assert targets == [[5, 6, 7, 2], [5, 2, 2, 2]]
  assert paddings == [[0, 0, 0, 0], [0, 0, 1, 1]]


def test_without_the_end_and_without_padding(ops, run):
  tokens, targets, paddings = _target_ids(
    ops, run, ['ab', ''], maxlen=9, append_eos=False, pad_to_maxlen=False
  )
  assert tokens == [[1, 5, 6], [1, 2, 2]]
  assert targets == [[5, 6, 2], [2, 2, 2]]
  assert paddings == [[0, 0, 1], [1, 1, 1]]


def test_each_byte_that_is_no_known_character_is_unknown(ops, run):
  text = b'a\xc3\xa9\x01\x07\xff<unk>\x7f<UNK>b\x00'
  (ids,) = _target_ids(ops, run, [text], maxlen=12)[1]
  assert ids == [5, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 2]


def test_ids_to_strings(ops, run):
  strings = run(
    lambda: ops.id_to_ascii(
      [[12, 9, 16, 2], [73, 3, 0, 76], [5, 5, 5, 5]], [3, 4, 0]
    )
  )
  assert strings.tolist() == [b'hel', b'<epsilon> <unk><unk>', b'']


def test_every_string_of_known_characters_survives_the_round_trip(ops, run):
  known = sorted(set(string.printable.lower()) - set('\t\n\r\v\f'))
  rng = random.Random(0)
  texts = [''.join(rng.choices(known, k=rng.randrange(20))) for _ in range(50)]

  def build():
    _, ids, paddings = ops.ascii_to_token_id(texts, append_eos=False, maxlen=21)
    lengths = tf.cast(tf.reduce_sum(1.0 - paddings, 1), tf.int32)
    return ops.id_to_ascii(ids, lengths)

  assert run(build).tolist() == [text.encode() for text in texts]


def test_labels_that_are_no_vector_raise(stand_in_ops, run):
  with pytest.raises(ValueError, match='labels must be a vector'):
    run(lambda: tuple(stand_in_ops.ascii_to_token_id([['a']])))
