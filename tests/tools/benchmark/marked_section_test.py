# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from tools.benchmark.marked_section import MarkedSection

_BEGIN, _END = '<!-- x:begin -->', '<!-- x:end -->'


def test_what_is_between_the_comments_is_replaced(tmp_path):
  file = tmp_path / 'a.md'
  file.write_text(f'before\n{_BEGIN}\nold\n{_END}\nafter\n')
  MarkedSection(str(file), 'x').replace('new\n')
  wanted = f'before\n{_BEGIN}\n\nnew\n\n{_END}\nafter\n'
  assert file.read_text() == wanted
  MarkedSection(str(file), 'x').replace('new')
  assert file.read_text() == wanted


@pytest.mark.parametrize(
  'text',
  ['', _BEGIN, f'{_END} {_BEGIN}', f'{_BEGIN} {_END} {_END}', f'{_BEGIN}' * 2],
)
def test_a_file_without_both_comments_is_refused(tmp_path, text):
  file = tmp_path / 'a.md'
  file.write_text(text)
  with pytest.raises(ValueError, match='once each, in this order'):
    MarkedSection(str(file), 'x')
  assert file.read_text() == text


def test_a_file_that_is_not_there_is_named(tmp_path):
  with pytest.raises(ValueError, match=r'no file .*a\.md'):
    MarkedSection(str(tmp_path / 'a.md'), 'x')
