# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's tokenizers that read a vocabulary file.

StrToVocabTokens, NgramIdToToken, BpeWordsToIds and BpeIdsToWords. A file is
read when the op is created.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from lingvo_gpipe.lingvo_ops import labels as labels_lib
from lingvo_gpipe.lingvo_ops import lookup
from lingvo_gpipe.lingvo_ops import vocab as vocab_lib


def str_to_vocab_tokens(
  labels: Any,
  vocab_filepath: str,
  append_eos: bool = True,
  maxlen: int = 300,
  pad_to_maxlen: bool = True,
  load_token_ids_from_vocab: bool = True,
  delimiter: str = ' ',
  name: str | None = None,
) -> labels_lib.Labels:
  """Splits strings into tokens and looks up their ids.

  Args:
    labels: a string vector.
    vocab_filepath: the vocabulary, see `vocab.Vocab`.
    append_eos: whether the end token counts as a label.
    maxlen: the rows' length; longer sequences lose their end.
    pad_to_maxlen: False for rows no longer than needed.
    load_token_ids_from_vocab: whether the vocabulary's lines have ids.
    delimiter: any of its bytes ends a token; tokens of white space do not
      count. '' makes each byte a token.
    name: the op's name.

  Returns:
    token_ids, target_ids: [batch, maxlen], int32, and paddings: [batch,
    maxlen], float32; see `labels.make_labels`.

  Raises:
    ValueError: `labels` is not a vector, or `maxlen` is not positive.
    tf.errors.InvalidArgumentError: there is no such vocabulary.
  """
  with tf.name_scope(name or 'StrToVocabTokens'):
    strings = _check_labels(labels, maxlen)
    vocab = vocab_lib.Vocab.from_file(vocab_filepath, load_token_ids_from_vocab)
    tokens = _split(strings, tf.compat.as_bytes(delimiter))
    return labels_lib.make_labels(
      tokens.with_values(vocab.tokens_to_ids(tokens.values)),
      max_ids=maxlen,
      maxlen=maxlen,
      sos_id=vocab.sos_id,
      eos_id=vocab.eos_id,
      append_eos=append_eos,
      pad_to_maxlen=pad_to_maxlen,
    )


def ngram_id_to_token(
  token_ids: Any,
  seq_lengths: Any,
  ngram_vocab_filepath: str,
  ngram_separator: str = '',
  name: str | None = None,
) -> tf.Tensor:
  """Joins the tokens of ids.

  Args:
    token_ids: [batch, time], int32; an unknown id gives the unknown token.
    seq_lengths: [batch], int32: how many ids of each row to take.
    ngram_vocab_filepath: the vocabulary, see `vocab.Vocab`.
    ngram_separator: put between the tokens.
    name: the op's name.

  Returns:
    A string vector [batch].

  Raises:
    ValueError: the shapes are known, and are not these.
    tf.errors.InvalidArgumentError: there is no such vocabulary; or the lengths
      do not fit, when the op runs.
  """
  with tf.name_scope(name or 'NgramIdToToken'):
    ids = labels_lib.check_matrix_and_lengths(token_ids, seq_lengths)
    vocab = vocab_lib.Vocab.from_file(ngram_vocab_filepath)
    tokens = ids.with_values(vocab.ids_to_tokens(ids.values))
    return tf.strings.reduce_join(tokens, axis=1, separator=ngram_separator)


def bpe_words_to_ids(
  labels: Any,
  tokenization_filepath: str,
  append_eos: bool = True,
  maxlen: int = 300,
  sos_id: int = 1,
  eos_id: int = 2,
  name: str | None = None,
) -> labels_lib.Labels:
  """Splits strings into words, and these into byte-pair ids.

  Args:
    labels: a string vector; words are separated by spaces.
    tokenization_filepath: a file of lines 'word id,id,...'. A word that is not
      there has no ids.
    append_eos: whether the end token counts as a label.
    maxlen: the rows' length; longer sequences lose their end.
    sos_id: the start token's id.
    eos_id: the end token's id.
    name: the op's name.

  Returns:
    token_ids, target_ids: [batch, maxlen], int32, and paddings: [batch,
    maxlen], float32; see `labels.make_labels`.

  Raises:
    ValueError: `labels` is not a vector, `maxlen` is not positive, or the file
      has another form.
  """
  with tf.name_scope(name or 'BpeWordsToIds'):
    strings = _check_labels(labels, maxlen)
    words = {}
    for line in filter(None, vocab_lib.read_lines(tokenization_filepath)):
      word, *fields = line.split(b' ')
      if not fields:
        raise ValueError(
          f'{tokenization_filepath}: {line!r} is not "word id,id,...".'
        )
      words[word] = [int(i) for i in fields[0].split(b',')]
    tokens = _split(strings, b' ')
    # Words become rows of one ragged table; the last row is the unknown's.
    table = tf.ragged.constant([*words.values(), []], tf.int32, ragged_rank=1)
    rows = lookup.lookup(
      tokens.values, list(words), range(len(words)), len(words), tf.int32
    )
    ids = tokens.with_values(tf.gather(table, rows)).merge_dims(1, 2)
    return labels_lib.make_labels(
      ids,
      max_ids=maxlen,
      maxlen=maxlen,
      sos_id=sos_id,
      eos_id=eos_id,
      append_eos=append_eos,
    )


def bpe_ids_to_words(
  token_ids: Any,
  seq_lengths: Any,
  vocab_filepath: str,
  name: str | None = None,
) -> tf.Tensor:
  """Joins byte-pair tokens to words, a space after each.

  Args:
    token_ids: [batch, time], int32.
    seq_lengths: [batch], int32: how many ids of each row to take.
    vocab_filepath: a file whose n-th line, from 0, begins with the token of
      the id n; '@@' in it says that the word goes on.
    name: the op's name.

  Returns:
    A string vector [batch].

  Raises:
    ValueError: the shapes are known, and are not these.
    tf.errors.InvalidArgumentError: the lengths do not fit, or an id is not in
      the file; when the op runs.
  """
  with tf.name_scope(name or 'BpeIdsToWords'):
    ids = labels_lib.check_matrix_and_lengths(token_ids, seq_lengths)
    pieces = []
    for line in filter(None, vocab_lib.read_lines(vocab_filepath)):
      token = line.split(b' ')[0]
      goes_on = b'@@' in token
      pieces.append(token.replace(b'@@', b'', 1) if goes_on else token + b' ')
    known = (ids.values >= 0) & (ids.values < len(pieces))
    unknown = f'an id is not in {vocab_filepath}:'
    with tf.control_dependencies(
      [tf.debugging.Assert(tf.reduce_all(known), [unknown, ids.values])]
    ):
      tokens = tf.gather(pieces, tf.where(known, ids.values, 0))
    return tf.strings.reduce_join(ids.with_values(tokens), axis=1)


def _check_labels(labels: Any, maxlen: int) -> tf.Tensor:
  strings = tf.convert_to_tensor(labels, tf.string)
  if strings.shape.rank not in (None, 1):
    raise ValueError(f'labels must be a vector, but get {strings.shape}.')
  if maxlen < 1:
    raise ValueError(f'maxlen={maxlen} must be positive.')
  return tf.ensure_shape(strings, [None])


def _split(strings: tf.Tensor, delimiter: bytes) -> tf.RaggedTensor:
  """Tokens that have more than white space, by any byte of the delimiter."""
  if not delimiter:
    return tf.strings.bytes_split(strings)
  if len(delimiter) > 1:
    strings = _replace_bytes(strings, delimiter[1:], delimiter[:1])
  tokens = tf.strings.split(strings, delimiter[:1])
  blank = tf.strings.regex_full_match(tokens.values, r'[ \t\n\v\f\r]*')
  return tf.ragged.boolean_mask(tokens, tokens.with_values(~blank))


def _replace_bytes(strings: tf.Tensor, old: bytes, new: bytes) -> tf.Tensor:
  """Puts `new` for each byte that is in `old`."""
  # TensorFlow's regular expressions would take UTF-8 characters for bytes.
  table = [new if byte in old else bytes([byte]) for byte in range(256)]
  each = tf.strings.bytes_split(strings)
  values = tf.reshape(tf.io.decode_raw(each.values, tf.uint8), [-1])
  replaced = tf.gather(table, tf.cast(values, tf.int32))
  return tf.strings.reduce_join(each.with_values(replaced), axis=1)
