# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import numpy as np
import pytest

from lingvo_gpipe.inputs import corpus, tokenizers

_TEXTS = [
  'The  quick brown fox.\n\n    Indented\tby four,\r\nwith tabs. \n',
  'na\u00efve \u4e2d\u6587 \U0001f600 \0 end ',
  ' ',
  '',
]


@pytest.fixture(scope='module')
def documents():
  return corpus.python_topics()[:25]


@pytest.fixture(scope='module')
def pieces(documents):
  model = tokenizers.train_sentencepiece(documents, 600)
  return tokenizers.SentencePieceTokenizer(model)


@pytest.mark.parametrize('text', _TEXTS)
def test_ids_give_the_text_back(pieces, text):
  of_bytes = tokenizers.ByteTokenizer()
  for tokenizer in (pieces, of_bytes):
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int32
    assert tokenizer.decode(ids) == text
    assert tokenizer.bytes_per_token[ids].sum() == len(text.encode())
  assert ids.tolist() == [3 + x for x in text.encode()]
  assert len(of_bytes.bytes_per_token) == 259


def test_pieces_shorten_the_text(pieces, documents):
  assert len(pieces.bytes_per_token) == 600
  for text in documents[:5]:
    ids = pieces.encode(text)
    assert len(ids) < 0.6 * len(text)
    assert pieces.decode(ids) == text
    # No mark and no unknown piece occurs in text.
    assert ids.min() > 3


def test_marks_are_no_text(pieces):
  marks = [tokenizers.PADDING, tokenizers.BEGIN, tokenizers.END]
  for tokenizer in (pieces, tokenizers.ByteTokenizer()):
    ids = [*marks, *tokenizer.encode('ab'), *marks]
    assert tokenizer.decode(ids) == 'ab'
    assert tokenizer.bytes_per_token[marks].tolist() == [0, 0, 0]
  # Nor is half of a character.
  assert tokenizers.ByteTokenizer().decode([3 + 0xC3]) == '\ufffd'


def test_the_stand_in_for_spaces_is_refused(pieces):
  with pytest.raises(ValueError, match=r'U\+2581 .* at offset 3'):
    pieces.encode('ab \u2581')


def test_what_allows_no_vocabulary_is_refused(documents):
  message = r'vocab_size=200 .* than required_chars. 200 vs \d+'
  with pytest.raises(ValueError, match=message):
    tokenizers.train_sentencepiece(documents, 200)


def test_lines_longer_than_sentencepiece_takes_are_learnt():
  text = 'abracadabra ' * 2000
  model = tokenizers.train_sentencepiece([text], 270)
  ids = tokenizers.SentencePieceTokenizer(model).encode(text)
  assert len(ids) < len(text) / 3


def test_a_model_is_trained_once(tmp_path, documents, monkeypatch):
  def tokenizer(size=500):
    return tokenizers.sentencepiece_tokenizer(documents, size, str(tmp_path))

  first = tokenizer()
  monkeypatch.setattr(tokenizers, 'train_sentencepiece', None)
  again = tokenizer()
  assert again.identity == first.identity
  assert (again.encode('One two') == first.encode('One two')).all()
  with pytest.raises(TypeError):
    tokenizer(501)


def test_another_process_trains_the_same_model(documents):
  code = (
    'import sys; from lingvo_gpipe.inputs import corpus, tokenizers;'
    'sys.stdout.buffer.write(tokenizers.train_sentencepiece('
    '  corpus.python_topics()[:25], 500))'
  )
  model = subprocess.check_output([sys.executable, '-c', code], timeout=120)
  assert model == tokenizers.train_sentencepiece(documents, 500)
