# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.inputs import corpus

_DOCUMENTS = [f'Document {i}. ' + 'x' * (50 * i) for i in range(1, 40)]


def test_files_are_read_in_the_order_of_their_paths(tmp_path):
  (tmp_path / 'b.txt').write_text('two')
  (tmp_path / 'deep').mkdir()
  (tmp_path / 'deep' / 'a.txt').write_text('three \u00e4')
  (tmp_path / 'a.txt').write_bytes(b'one\r\n')
  (tmp_path / 'empty.txt').write_text(' \n')
  (tmp_path / 'c.md').write_text('no')
  assert corpus.read_files(f'{tmp_path}/**/*.txt') == [
    'one\r\n',
    'two',
    'three \u00e4',
  ]
  # A file that two patterns match is there once.
  both = f'{tmp_path}/c.md, {tmp_path}/?.*'
  assert corpus.read_files(both) == ['one\r\n', 'two', 'no']


def test_a_separator_cuts_files_into_documents(tmp_path):
  (tmp_path / 'a').write_text('one<|end|>two\n<|end|>\n')
  (tmp_path / 'b').write_text('three')
  documents = corpus.read_files(f'{tmp_path}/*', '<|end|>')
  assert documents == ['one', 'two\n', 'three']


@pytest.mark.parametrize(
  ('contents', 'pattern', 'message'),
  [
    (b'one', '{0}/a, {0}/*.txt', r"No file matches '.*\*\.txt' \(in"),
    (b'\n', '{0}/a', r'1 file\(s\) that match .*no text'),
    (b'na\xefve', '{0}/a', '/a is not UTF-8.*0xef in position 2'),
  ],
)
def test_unreadable_files_are_named(tmp_path, contents, pattern, message):
  (tmp_path / 'a').write_bytes(contents)
  with pytest.raises(ValueError, match=message):
    corpus.read_files(pattern.format(tmp_path))


@pytest.mark.parametrize('fraction', [1e-9, 0.05, 0.5, 0.999])
def test_held_out_documents_make_up_the_fraction(fraction):
  train, test = corpus.hold_out(_DOCUMENTS, fraction)
  assert train and test
  assert sorted(train + test) == sorted(_DOCUMENTS)
  # As nearly as the largest document allows.
  wanted = fraction * corpus.num_bytes(_DOCUMENTS)
  assert abs(corpus.num_bytes(test) - wanted) < 2000


def test_the_split_depends_on_the_texts_alone():
  _, test = corpus.hold_out(_DOCUMENTS, 0.3)
  assert set(corpus.hold_out(_DOCUMENTS[::-1], 0.3)[1]) == set(test)
  # What is held out is no run of the documents.
  held_out = [i for i, x in enumerate(_DOCUMENTS) if x in test]
  assert held_out != list(range(held_out[0], held_out[0] + len(held_out)))
  # Hashes are the same in every process and version.
  assert corpus.hold_out(list('abcdefgh'), 0.25)[1] == ['d', 'f']


def test_equal_documents_stay_together():
  train, test = corpus.hold_out(_DOCUMENTS * 2, 0.5)
  assert not set(train) & set(test)
  assert len(train) + len(test) == 2 * len(_DOCUMENTS)


_SHARED = 'A paragraph that stands in two documents,\nover two lines.'


def test_held_out_paragraphs_leave_the_training_documents():
  train = (
    f'Begin.\n\n{_SHARED}\n  \n\nEnd.\n',
    _SHARED.replace('\n', '  '),
    'Other.',
    '\n\n One. \n \n\t Two.\n\n',
  )
  clean = corpus.without_shared_paragraphs(train, [f'{_SHARED}\n\nOther.'])
  # The second is gone; short ones may occur twice.
  assert clean == ['Begin.\n\nEnd.\n', *train[2:]]


def test_what_leaves_nothing_to_train_on_is_refused():
  with pytest.raises(ValueError, match='single document'):
    corpus.hold_out(['same', 'same'], 0.5)
  with pytest.raises(ValueError, match='held out as well'):
    corpus.without_shared_paragraphs([_SHARED], [_SHARED])
