# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import input_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.inputs import corpus, text, tokenizers

_KEYS = ['bytes', 'ids', 'labels', 'segment_ids', 'segment_pos', 'weights']
_DOCUMENTS = {
  'a.txt': 'Short one.',
  'b.txt': 'A somewhat longer document, of \u00e4 few rows. ' * 3,
  'c.txt': 'Third: ' + ''.join(map(str, range(40))),
  'd.txt': 'Held out, with an \u00e9. ' * 4,
}
_TRAINED_ON = [_DOCUMENTS[x] for x in ('a.txt', 'b.txt', 'c.txt')]
_NUM_BYTES = sum(len(x.encode()) for x in _TRAINED_ON)


@pytest.fixture(scope='module')
def files(tmp_path_factory):
  path = tmp_path_factory.mktemp('text')
  for name, contents in _DOCUMENTS.items():
    (path / name).write_text(contents)

  def params(make=text.TextInput.TrainParams, **kwargs):
    p = make().Set(
      files=f'{path}/[abc].txt',
      held_out_files=f'{path}/d.txt',
      cache_dir=str(path / 'cache'),
      row_length=16,
      batch_size=4,
    )
    return p.Set(**kwargs)

  return params


@pytest.fixture(scope='module')
def one_pass(files):
  return input_testing.batches(files(training=False))


def _segments(batches):
  """The segments of all rows: ids, labels and bytes."""
  for batch in batches:
    for row in range(len(batch.ids)):
      for segment in range(1, batch.segment_ids[row].max() + 1):
        here = batch.segment_ids[row] == segment
        yield tuple(batch[x][row][here] for x in ('ids', 'labels', 'bytes'))


def test_batches_are_rows_of_packed_documents(one_pass):
  for batch in one_pass:
    assert sorted(batch) == _KEYS
    assert {x.shape for x in batch.values()} == {(4, 16)}
    for key in ('ids', 'labels', 'segment_ids', 'segment_pos'):
      assert batch[key].dtype == np.int32
    for key in ('weights', 'bytes'):
      assert batch[key].dtype == np.float32
    empty = batch.weights == 0
    np.testing.assert_array_equal(empty, batch.segment_ids == 0)
    for key in _KEYS:
      assert not batch[key][empty].any()
    # Empty places are at the end of a row, and segments one after another.
    assert (np.diff(batch.weights) <= 0).all()
    steps = np.diff(batch.segment_ids)
    assert set(steps[~empty[:, 1:]].tolist()) <= {0, 1}
    within = (steps == 0) & ~empty[:, 1:]
    assert (np.diff(batch.segment_pos)[within] == 1).all()
    begins = (steps == 1) & ~empty[:, 1:]
    assert not batch.segment_pos[:, 1:][begins].any()
    assert not batch.segment_pos[:, 0].any()


def test_labels_are_the_next_tokens_and_cross_no_document(one_pass):
  num_segments = 0
  for ids, labels, sizes in _segments(one_pass):
    num_segments += 1
    np.testing.assert_array_equal(ids[1:], labels[:-1])
    assert tokenizers.END not in ids
    assert tokenizers.BEGIN not in ids[1:]
    np.testing.assert_array_equal(sizes, labels != tokenizers.END)
  assert num_segments > 10
  shared = [batch.segment_ids.max() for batch in one_pass]
  assert max(shared) > 1


def test_a_pass_shows_every_byte_of_every_document_once(files, one_pass):
  # In such rows each document is one segment.
  params = files(training=False, row_length=1000, batch_size=3)
  batches = input_testing.batches(params)
  decode = tokenizers.ByteTokenizer().decode
  texts = [decode(labels) for _, labels, _ in _segments(batches)]
  assert sorted(texts) == sorted(_TRAINED_ON)
  for seen in (batches, one_pass):
    assert sum(x.bytes.sum() for x in seen) == _NUM_BYTES
    assert sum(x.weights.sum() for x in seen) == _NUM_BYTES + 3


def test_evaluation_fills_the_last_batch_with_empty_rows(files):
  params = files(text.TextInput.TestParams, batch_size=5)
  batches = input_testing.batches(params)
  num_bytes = len(_DOCUMENTS['d.txt'].encode())
  assert num_bytes == 88
  assert len(batches) == 2
  rows = np.concatenate([x.weights.sum(1) for x in batches])
  assert rows.tolist() == [16, 16, 16, 16, 16, 9, 0, 0, 0, 0]
  assert sum(x.bytes.sum() for x in batches) == num_bytes


def test_several_layouts_show_each_token_as_often(files):
  params = files(num_layouts=3, batch_size=1)
  with tf.Graph().as_default():
    num_rows = params.Instantiate().num_examples
  batches = input_testing.batches(params, range(num_rows))
  assert sum(x.bytes.sum() for x in batches) == 3 * _NUM_BYTES
  # Evaluation has one.
  batches = input_testing.batches(files(num_layouts=3, training=False))
  assert sum(x.bytes.sum() for x in batches) == _NUM_BYTES


def test_pieces_of_the_default_corpus_count_all_bytes(tmp_path):
  params = text.TextInput.TestParams().Set(
    batch_size=16,
    tokenizer='sentencepiece',
    sentencepiece_vocab_size=500,
    cache_dir=str(tmp_path),
  )
  batches = input_testing.batches(params)
  with tf.Graph().as_default():
    generator = params.Instantiate()
  assert generator.vocab_size == 500
  num_bytes = corpus.num_bytes(generator._documents)
  assert sum(x.bytes.sum() for x in batches) == num_bytes
  assert sum(x.weights.sum() for x in batches) < 0.6 * num_bytes
  # Training and evaluation have one tokenizer: that of the training text.
  with tf.Graph().as_default():
    train = params.Set(split='train').Instantiate()
  assert train.tokenizer.identity == generator.tokenizer.identity
  assert [x.suffix for x in tmp_path.iterdir()].count('.model') == 1
  ids = batches[0].labels[0]
  assert generator.tokenizer.decode(ids) in ''.join(generator._documents)


def test_a_large_corpus_is_read_from_a_file(files, tmp_path, monkeypatch):
  def batches():
    return input_testing.batches(files(cache_dir=str(tmp_path)), [0, 5])

  want = batches()
  monkeypatch.setattr(text, '_MAX_BYTES_IN_GRAPH', 10)
  assert all(map(input_testing.same, batches(), want))
  assert list(tmp_path.glob('tokens-*.uint16'))
  # It is read, not made again.
  monkeypatch.setattr(text.TextInput, '_Stream', None)
  assert all(map(input_testing.same, batches(), want))


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    ({'tokenizer': 'words'}, "tokenizer must be one of .* got 'words'"),
    ({'held_out_fraction': 1.0}, r'held_out_fraction.*less than 1, got 1\.0'),
    ({'row_length': 0}, 'row_length must be positive, got 0'),
    ({'num_layouts': 0}, 'num_layouts must be positive, got 0'),
    (
      {'held_out_files': '', 'held_out_fraction': 0.0, 'split': 'test'},
      "no document is held out for the split 'test'",
    ),
  ],
)
def test_impossible_params_are_refused(files, params, message):
  with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
    files(**params).Instantiate()
