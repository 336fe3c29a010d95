# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's vocabularies: VocabTokenToId, VocabIdToToken and TokenInVocab."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from lingvo_gpipe.lingvo_ops import lookup

_LOWER = (b'<s>', b'</s>', b'<unk>')
_UPPER = (b'<S>', b'</S>', b'<UNK>')


class Vocab:
  """Tokens and their ids.

  A vocabulary has the start, end and unknown tokens, as <s>, </s>, <unk> or as
  <S>, </S>, <UNK>, and not both.

  Attributes:
    token_to_id: {token: id}.
    id_to_token: {id: token}.
    sos_id: the start token's id.
    eos_id: the end token's id.
    unk_id: the unknown token's id.
    unk_token: the unknown token.
  """

  def __init__(
    self, lines: Iterable[str | bytes], load_token_ids: bool = False
  ) -> None:
    """Reads a vocabulary.

    Args:
      lines: tokens, the n-th (from 0) of which has the id n; empty lines do
        not count, and what follows a tab does not belong to the token.
      load_token_ids: each line is 'token<tab>id' instead.

    Raises:
      tf.errors.InvalidArgumentError: a line has no id, or a special token is
        missing, or is there in both cases.
    """
    self.token_to_id: dict[bytes, int] = {}
    self.id_to_token: dict[int, bytes] = {}
    for line in filter(None, map(tf.compat.as_bytes, lines)):
      token, *fields = line.split(b'\t')
      index = len(self.id_to_token)
      if load_token_ids:
        if not fields:
          _raise(f'the vocabulary line {line!r} is not "token<tab>id".')
        index = int(fields[0])
      self.token_to_id[token] = index
      self.id_to_token[index] = token
    lower = _LOWER[0] in self.token_to_id
    expected, unexpected = (_LOWER, _UPPER) if lower else (_UPPER, _LOWER)
    for token in expected:
      if token not in self.token_to_id:
        _raise(f'{token.decode()} is not found in the vocab.')
    for token in unexpected:
      if token in self.token_to_id:
        _raise(f'Invalid token {token.decode()} is found in the vocab.')
    self.sos_id, self.eos_id, self.unk_id = (
      self.token_to_id[token] for token in expected
    )
    self.unk_token = expected[2]

  @classmethod
  def from_file(cls, pattern: str, load_token_ids: bool = False) -> Vocab:
    """Reads a vocabulary from the one file that matches `pattern`.

    Args:
      pattern: the file's path, or a pattern that matches it.
      load_token_ids: as in the constructor.

    Returns:
      The vocabulary.

    Raises:
      tf.errors.InvalidArgumentError: no file matches, or several do, or the
        file is no vocabulary.
    """
    paths = tf.io.gfile.glob(pattern)
    if len(paths) != 1:
      _raise(
        f'Did not match exactly one file with pattern: {pattern} '
        f'(matched {len(paths)}).'
      )
    return cls(read_lines(paths[0]), load_token_ids)

  def tokens_to_ids(self, tokens: tf.Tensor) -> tf.Tensor:
    """int32 ids of a string tensor; unknown ones get `unk_id`."""
    table = self.token_to_id
    return lookup.lookup(
      tokens, list(table), list(table.values()), self.unk_id, tf.int32
    )

  def ids_to_tokens(self, ids: tf.Tensor) -> tf.Tensor:
    """String tokens of an int32 tensor; unknown ones get `unk_token`."""
    table = self.id_to_token
    return lookup.lookup(
      ids, list(table), list(table.values()), self.unk_token, tf.string
    )


def read_lines(path: str) -> list[bytes]:
  """The lines of a file, ended by newlines only."""
  with tf.io.gfile.GFile(path, 'rb') as f:
    return f.read().split(b'\n')


def vocab_token_to_id(
  token: Any,
  vocab: Sequence[str | bytes],
  load_token_ids_from_vocab: bool = False,
  name: str | None = None,
) -> tf.Tensor:
  """Looks up tokens' ids.

  Args:
    token: a string tensor.
    vocab: the vocabulary's lines, see `Vocab`.
    load_token_ids_from_vocab: whether the lines have ids.
    name: the op's name.

  Returns:
    An int32 tensor of token's shape; the unknown token's id where a token is
    not in the vocabulary.

  Raises:
    tf.errors.InvalidArgumentError: `vocab` is no vocabulary.
  """
  with tf.name_scope(name or 'VocabTokenToId'):
    token = tf.convert_to_tensor(token, tf.string)
    return Vocab(vocab, load_token_ids_from_vocab).tokens_to_ids(token)


def vocab_id_to_token(
  id: Any,
  vocab: Sequence[str | bytes],
  load_token_ids_from_vocab: bool = False,
  name: str | None = None,
) -> tf.Tensor:
  """Looks up the tokens of an int32 tensor of ids.

  See `vocab_token_to_id`; an id that is not in the vocabulary gives the
  unknown token.
  """
  with tf.name_scope(name or 'VocabIdToToken'):
    ids = tf.convert_to_tensor(id, tf.int32)
    return Vocab(vocab, load_token_ids_from_vocab).ids_to_tokens(ids)


def token_in_vocab(
  token: Any,
  vocab: Sequence[str | bytes],
  load_token_ids_from_vocab: bool = False,
  name: str | None = None,
) -> tf.Tensor:
  """Whether tokens are in a vocabulary: a bool tensor of token's shape.

  See `vocab_token_to_id`.
  """
  with tf.name_scope(name or 'TokenInVocab'):
    token = tf.convert_to_tensor(token, tf.string)
    tokens = list(Vocab(vocab, load_token_ids_from_vocab).token_to_id)
    known = [True] * len(tokens)
    return lookup.lookup(token, tokens, known, False, tf.bool)


def _raise(message: str) -> None:
  raise tf.errors.InvalidArgumentError(None, None, message)
