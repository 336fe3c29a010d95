# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's character tokenizer: AsciiToTokenId and IdToAscii."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from lingvo_gpipe.lingvo_ops import labels

# The special tokens, and the characters between them, in the order of their
# ids; the id of whatever is not here is 0.
_SPECIAL = {
  0: '<unk>',
  1: '<s>',
  2: '</s>',
  4: '<noise>',
  73: '<epsilon>',
  74: '<text_only>',
  75: '<sorw>',
}
_CHARACTERS = {
  3: ' ',
  5: 'abcdefghijklmnopqrstuvwxyz.\'-:!~`;0123456789"#$%&()*+,/<=>?@[\\]^_{|}',
}
_UNK_ID = 0
_SOS_ID = 1
_EOS_ID = 2


def _make_tokens() -> list[str]:
  tokens = dict(_SPECIAL)
  for first, characters in _CHARACTERS.items():
    tokens.update(enumerate(characters, first))
  return [tokens[i] for i in range(len(tokens))]


_TOKENS = _make_tokens()


def _make_ids_of_bytes() -> np.ndarray:
  """The id of each byte value; byte i + 1 stands for the i-th special token."""
  ids = np.full([256], _UNK_ID, np.int32)
  for i, token in enumerate(_TOKENS):
    if i not in _SPECIAL:
      ids[ord(token)] = i
  ids[1 : len(_SPECIAL) + 1] = list(_SPECIAL)
  return ids


_IDS_OF_BYTES = _make_ids_of_bytes()


def ascii_to_token_id(
  labels: Any,
  append_eos: bool = True,
  maxlen: int = 300,
  pad_to_maxlen: bool = True,
  name: str | None = None,
) -> labels.Labels:
  """Converts strings to the ids of their characters, in lower case.

  Args:
    labels: a string vector. Special tokens, '<epsilon>' for example, are
      recognised in it.
    append_eos: whether the end token counts as a label.
    maxlen: the rows' length; longer strings lose their end.
    pad_to_maxlen: False for rows no longer than needed.
    name: the op's name.

  Returns:
    token_ids, target_ids: [batch, maxlen], int32, and paddings: [batch,
    maxlen], float32; see `labels.make_labels`.

  Raises:
    ValueError: `labels` is not a vector.
  """
  with tf.name_scope(name or 'AsciiToTokenId'):
    strings = tf.convert_to_tensor(labels, tf.string)
    if strings.shape.rank not in (None, 1):
      raise ValueError(f'labels must be a vector, but get {strings.shape}.')
    return _make_labels(
      _ids_of_strings(strings), maxlen, append_eos, pad_to_maxlen
    )


def id_to_ascii(
  token_ids: Any, seq_lengths: Any, name: str | None = None
) -> tf.Tensor:
  """Joins the characters of ids.

  Args:
    token_ids: [batch, time], int32; an unknown id gives '<unk>'.
    seq_lengths: [batch], int32: how many ids of each row to take.
    name: the op's name.

  Returns:
    A string vector [batch].

  Raises:
    ValueError: the shapes are known, and are not these.
    tf.errors.InvalidArgumentError: the lengths do not fit; when the op runs.
  """
  with tf.name_scope(name or 'IdToAscii'):
    ids = _check(token_ids, seq_lengths)
    known = (ids.values >= 0) & (ids.values < len(_TOKENS))
    tokens = tf.gather(_TOKENS, tf.where(known, ids.values, _UNK_ID))
    return tf.strings.reduce_join(ids.with_values(tokens), axis=1)


def _ids_of_strings(strings: tf.Tensor) -> tf.RaggedTensor:
  strings = tf.strings.lower(strings)
  # Each special token becomes one byte, so that the rest is one id a byte.
  # These bytes are unknown characters where they are in the input.
  strings = tf.strings.regex_replace(strings, '[\x01-\x07]', '\x7f')
  for i, token in enumerate(_SPECIAL.values()):
    strings = tf.strings.regex_replace(strings, token, chr(i + 1))
  each = tf.strings.bytes_split(strings)
  values = tf.io.decode_raw(each.values, tf.uint8)
  return each.with_values(
    tf.gather(_IDS_OF_BYTES, tf.cast(tf.reshape(values, [-1]), tf.int32))
  )


def _make_labels(
  ids: tf.RaggedTensor, maxlen: int, append_eos: bool, pad_to_maxlen: bool
) -> labels.Labels:
  return labels.make_labels(
    ids,
    max_ids=maxlen - 1,
    maxlen=maxlen,
    sos_id=_SOS_ID,
    eos_id=_EOS_ID,
    append_eos=append_eos,
    pad_to_maxlen=pad_to_maxlen,
  )


_check = labels.check_matrix_and_lengths
