# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text to token ids and back: bytes, or SentencePiece.

Ids that stand for no text are the same in all tokenizers:

    0  padding
    1  begin of a document
    2  end of a document
"""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lingvo_gpipe.inputs import cached_file, corpus

PADDING = 0
BEGIN = 1
END = 2
_NUM_MARKS = 3

# Of SentencePiece: the character that stands for a space in its pieces.
_SPACE = '\u2581'
# Longer lines would be left out of the training, so they are cut.
_MAX_LINE = 2000
_MAX_TRAINING_BYTES = 64 * 2**20
# The number of threads has a say in the order of sums, so it is fixed.
_NUM_THREADS = 4


class ByteTokenizer:
  """The bytes of UTF-8, after the marks: 259 ids.

  `identity` differs between tokenizers that give different ids, and
  `bytes_per_token`, int32 [vocab_size], are bytes of UTF-8 an id stands for.
  """

  identity = 'bytes'

  def __init__(self) -> None:
    self.bytes_per_token = np.ones(256 + _NUM_MARKS, np.int32)
    self.bytes_per_token[:_NUM_MARKS] = 0

  def encode(self, text: str) -> npt.NDArray[np.int32]:
    data = np.frombuffer(text.encode(), np.uint8)
    return data.astype(np.int32) + _NUM_MARKS

  def decode(self, ids: Iterable[int]) -> str:
    """Leaves marks out; bytes not UTF-8 become U+FFFD."""
    data = bytes(i - _NUM_MARKS for i in map(int, ids) if i >= _NUM_MARKS)
    return data.decode(errors='replace')


class SentencePieceTokenizer:
  """The pieces of a SentencePiece model, used as `ByteTokenizer` is.

  Characters that have no piece are spelt in bytes, so no text is unknown.
  """

  def __init__(self, model: bytes) -> None:
    import sentencepiece

    self._processor: Any = sentencepiece.SentencePieceProcessor()
    self._processor.LoadFromSerializedProto(model)
    self.identity = corpus.digest([model.hex()])
    sizes = map(self._num_bytes, range(self._processor.GetPieceSize()))
    self.bytes_per_token = np.array(list(sizes), np.int32)

  def encode(self, text: str) -> npt.NDArray[np.int32]:
    if _SPACE in text:
      raise ValueError(
        'The text contains the character U+2581 (lower one eighth block) at '
        f'offset {text.index(_SPACE)}, which SentencePiece cannot tell from a '
        "space. Use the tokenizer 'bytes', or replace the character."
      )
    return np.array(self._processor.EncodeAsIds(text), np.int32)

  def decode(self, ids: Iterable[int]) -> str:
    kept = [i for i in map(int, ids) if i >= _NUM_MARKS]
    return str(self._processor.DecodeIds(kept))

  def _num_bytes(self, token: int) -> int:
    if self._processor.IsByte(token):
      return 1
    if self._processor.IsControl(token) or self._processor.IsUnknown(token):
      return 0
    piece = self._processor.IdToPiece(token)
    return len(piece.replace(_SPACE, ' ').encode())


def train_sentencepiece(documents: Sequence[str], vocab_size: int) -> bytes:
  """Trains a unigram model that keeps spaces and line ends as they are.

  Of more than 64 MiB of text the first documents are used. `vocab_size` counts
  three marks, 256 bytes and an id that occurs in no text; ValueError if the
  documents do not allow it.
  """
  import sentencepiece

  model = io.BytesIO()
  try:
    sentencepiece.SentencePieceTrainer.Train(
      sentence_iterator=_lines(documents),
      model_writer=model,
      vocab_size=vocab_size,
      model_type='unigram',
      character_coverage=1.0,
      byte_fallback=True,
      pad_id=PADDING,
      bos_id=BEGIN,
      eos_id=END,
      unk_id=_NUM_MARKS,
      normalization_rule_name='identity',
      remove_extra_whitespaces=False,
      add_dummy_prefix=False,
      allow_whitespace_only_pieces=True,
      # Otherwise a line end would have to be spelt as a byte.
      user_defined_symbols=['\n'],
      max_sentence_length=8 * _MAX_LINE,
      num_threads=_NUM_THREADS,
      minloglevel=2,
    )
  except RuntimeError as e:
    size = corpus.num_bytes(documents)
    raise ValueError(
      f'vocab_size={vocab_size} does not fit the training text of {size} '
      f'bytes: {str(e).rpartition("] ")[2]}'
    ) from e
  return model.getvalue()


def sentencepiece_tokenizer(
  documents: Sequence[str], vocab_size: int, directory: str
) -> SentencePieceTokenizer:
  """Returns the tokenizer trained on the documents, kept in the directory."""
  import sentencepiece

  settings = f'{vocab_size} unigram {sentencepiece.__version__}'
  key = corpus.digest([corpus.digest(documents), settings])
  path = os.path.join(directory, f'sentencepiece-{key[:32]}.model')
  model = cached_file.read_or_make(
    path, lambda: train_sentencepiece(documents, vocab_size)
  )
  return SentencePieceTokenizer(model)


def _lines(documents: Iterable[str]) -> Iterator[str]:
  used = 0
  for document in documents:
    if used >= _MAX_TRAINING_BYTES:
      return
    used += len(document.encode())
    for line in document.split('\n'):
      # Neither character may occur there, and each is dealt with elsewhere.
      line = line.replace('\0', '').replace(_SPACE, '')
      for i in range(0, len(line), _MAX_LINE):
        yield line[i : i + _MAX_LINE]
