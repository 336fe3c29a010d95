# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import page_testing
import pytest

PAGES = [
  page_testing.DOCS.parent / page
  for page in (
    'README.md',
    'docs/check.md',
    'docs/devices.md',
    'docs/text.md',
    'docs/training.md',
  )
]


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_command_and_flag_of_a_page_is_there(page):
  assert page_testing.check_commands(page) > 0


def test_a_flag_that_is_not_there_is_found(tmp_path):
  page = tmp_path / 'page.md'
  page.write_text('```sh\npython -m lingvo_gpipe.generate --no_such=1\n```\n')
  with pytest.raises(AssertionError, match='no flag --no_such'):
    page_testing.check_commands(page)
