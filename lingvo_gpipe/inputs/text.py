# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text for language models, in rows of packed documents."""

import functools
import os

import lingvo.compat as tf
import numpy as np
from lingvo.core import py_utils

from lingvo_gpipe.inputs import (
  cached_file,
  corpus,
  packing,
  resident_input,
  tokenizers,
)

_TOKENIZERS = ('bytes', 'sentencepiece')
# More text than this is not kept in the graph but in a file beside it.
_MAX_BYTES_IN_GRAPH = 4 * 2**20


class TextInput(resident_input.ResidentInput):
  """Rows of tokens and of the tokens that follow them.

  The examples are rows of packed documents, see `packing`.

  A batch is a NestedMap of tensors [batch_size, row_length]:
    ids: int32, the tokens a model sees.
    labels: int32, at each place the token that follows.
    segment_ids: int32, which of the row's segments a token belongs to: 1, 2,
      ...; 0 where the row is empty. A token may see its own segment only.
    segment_pos: int32, the place within the segment, from 0.
    weights: float32, 1 where there is a token, 0 where the row is empty.
    bytes: float32, how many bytes of UTF-8 the label stands for; 0 for the end
      of a document and where the row is empty.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define(
      'files', '', "Glob patterns with commas between; '': Python's help."
    )
    p.Define('document_separator', '', "'': each file is one document.")
    p.Define('held_out_files', '', "Of the split 'test'; '': some of `files`.")
    p.Define('held_out_fraction', 0.1, 'Share of bytes to hold out then.')
    p.Define('tokenizer', 'bytes', f'One of {_TOKENIZERS}.')
    p.Define('sentencepiece_vocab_size', 1024, 'Its number of ids.')
    p.Define('cache_dir', None, 'None: lingvo_gpipe in ~/.cache.')
    p.Define('row_length', 256, 'Number of tokens in a row.')
    p.Define('num_layouts', 1, 'Training: in how many ways documents are cut.')
    p.batch_size = 32
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    self._CheckParams()
    self._cache_dir = p.cache_dir or cached_file.default_directory()
    train, test = _documents(
      p.files, p.held_out_files, p.document_separator, p.held_out_fraction
    )
    self.tokenizer = self._Tokenizer(train)
    self._documents = train if p.split == 'train' else test
    if not self._documents:
      raise ValueError(
        f'{p.name}: no document is held out for the split {p.split!r}; '
        f'held_out_fraction is {p.held_out_fraction}.'
      )
    self._stream, lengths = self._Tokenize()
    num_layouts = p.num_layouts if p.training else 1
    self._layout = packing.pack(
      lengths, p.row_length, num_layouts, p.random_seed
    )
    self.CheckBatchSize()

  def _CheckParams(self):
    p = self.params
    if p.tokenizer not in _TOKENIZERS:
      self.Refuse('tokenizer', f'one of {_TOKENIZERS}')
    if not 0.0 <= p.held_out_fraction < 1.0:
      self.Refuse('held_out_fraction', 'at least 0 and less than 1')
    for name in ('row_length', 'num_layouts'):
      if p.Get(name) < 1:
        self.Refuse(name, 'positive')

  @property
  def num_examples(self):
    return len(self._layout.row_splits) - 1

  @property
  def vocab_size(self):
    return len(self.tokenizer.bytes_per_token)

  def _Tokenizer(self, documents):
    p = self.params
    if p.tokenizer == 'bytes':
      return tokenizers.ByteTokenizer()
    return tokenizers.sentencepiece_tokenizer(
      documents, p.sentencepiece_vocab_size, self._cache_dir
    )

  def _Tokenize(self):
    """The stream of tokens, or its file; the documents' lengths."""
    small = corpus.num_bytes(self._documents) <= _MAX_BYTES_IN_GRAPH
    key = corpus.digest(
      [corpus.digest(self._documents), self.tokenizer.identity]
    )
    path = os.path.join(
      self._cache_dir, f'tokens-{key[:32]}.{self._stream_type.name}'
    )
    if small:
      stream = self._Stream()
    else:
      data = cached_file.read_or_make(path, lambda: self._Stream().tobytes())
      stream = np.frombuffer(data, self._stream_type.as_numpy_dtype)
    # A document is followed by its end mark, and nothing else has that id.
    ends = np.flatnonzero(stream == tokenizers.END)
    lengths = np.diff(ends, prepend=-1) - 2
    return (stream if small else path), lengths.tolist()

  @property
  def _stream_type(self):
    return tf.uint16 if self.vocab_size <= 2**16 else tf.int32

  def _Stream(self):
    parts = []
    for text in self._documents:
      ids = self.tokenizer.encode(text)
      parts += [[tokenizers.BEGIN], ids, [tokenizers.END]]
    return np.concatenate(parts).astype(self._stream_type.as_numpy_dtype)

  def LoadData(self):
    if isinstance(self._stream, str):
      contents = tf.io.read_file(self._stream)
      stream = tf.io.decode_raw(contents, self._stream_type)
    else:
      stream = tf.constant(self._stream)
    layout = {k: tf.constant(v) for k, v in self._layout._asdict().items()}
    return py_utils.NestedMap(stream=stream, **layout)

  def MakeBatch(self, data, index, present, number):
    del number  # Nothing is random.
    places, segment_ids, segment_pos = places_of_rows(
      data, index, present, self.params.row_length
    )
    mask = places >= 0

    def tokens(places):
      ids = tf.cast(tf.gather(data.stream, tf.maximum(places, 0)), tf.int32)
      return tf.where_v2(mask, ids, tokenizers.PADDING)

    labels = tokens(places + 1)
    sizes = tf.constant(self.tokenizer.bytes_per_token, tf.float32)
    return py_utils.NestedMap(
      ids=tokens(places),
      labels=labels,
      segment_ids=tf.cast(segment_ids, tf.int32),
      segment_pos=tf.cast(segment_pos, tf.int32),
      weights=tf.cast(mask, tf.float32),
      bytes=tf.gather(sizes, labels),
    )


def places_of_rows(layout, index, present, row_length):
  """Where tokens are in the stream; their segments and places within.

  They are int64 [batch, row_length]; -1, 0 and 0 where a row is empty, which a
  row not `present` is. `layout` is a `packing.RowLayout` of tensors.
  """
  # Segments of the rows, then tokens of the segments.
  segments = tf.ragged.range(
    tf.gather(layout.row_splits, index), tf.gather(layout.row_splits, index + 1)
  )
  starts = tf.gather(layout.starts, segments.flat_values)
  lengths = tf.gather(layout.lengths, segments.flat_values)
  numbers = tf.ragged.range(segments.row_lengths()).flat_values + 1
  shape = [index.shape[0], row_length]

  def rows(tokens, empty):
    by_segment = tf.RaggedTensor.from_row_lengths(
      tokens, lengths, validate=False
    )
    by_row = segments.with_flat_values(by_segment).merge_dims(1, 2)
    dense = by_row.to_tensor(default_value=np.int64(empty), shape=shape)
    return tf.where_v2(present[:, tf.newaxis], dense, np.int64(empty))

  positions = tf.ragged.range(lengths).flat_values
  return (
    rows(tf.repeat(starts, lengths) + positions, empty=-1),
    rows(tf.repeat(numbers, lengths), empty=0),
    rows(positions, empty=0),
  )


@functools.lru_cache(maxsize=4)
def _documents(files, held_out_files, separator, fraction):
  if files:
    documents = corpus.read_files(files, separator)
  else:
    documents = corpus.python_topics()
  if held_out_files:
    train, test = documents, corpus.read_files(held_out_files, separator)
  elif fraction:
    train, test = corpus.hold_out(documents, fraction)
  else:
    return documents, []
  return corpus.without_shared_paragraphs(train, test), test
