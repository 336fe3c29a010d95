# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Links between pages, and names of files in them, lead somewhere."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DOCS = ROOT / 'docs'
PAGES = [ROOT / 'README.md', *sorted(DOCS.glob('*.md'))]
_LINK = re.compile(r'\]\(([^)\s]+)\)')
_FILE = re.compile(r'`([a-z_/]+/[a-z_0-9]+\.py)`')
_BLOCK = re.compile(r'^```.*?^```$', re.MULTILINE | re.DOTALL)


def _text(page):
  """The page without its code blocks."""
  return _BLOCK.sub('', page.read_text(encoding='utf-8'))


def _links(page):
  return [
    link for link in _LINK.findall(_text(page)) if not link.startswith('http')
  ]


def _anchors(page):
  titles = re.findall(r'^#+ (.+)$', _text(page), re.MULTILINE)
  return {re.sub(r'[^\w\- ]', '', t).lower().replace(' ', '-') for t in titles}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_title(page):
  for link in _links(page):
    name, _, anchor = link.partition('#')
    target = (page.parent / name).resolve() if name else page
    assert target.exists(), f'{page.name}: {link}'
    if anchor:
      assert anchor in _anchors(target), f'{page.name}: {link}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
  names = _FILE.findall(_text(page))
  places = (ROOT, ROOT / 'lingvo_gpipe', page.parent)
  missing = [n for n in names if not any((p / n).exists() for p in places)]
  assert not missing, f'{page.name}: {missing}'


def test_the_index_has_every_page():
  linked = set(_links(DOCS / 'README.md'))
  assert {page.name for page in DOCS.glob('*.md')} - {'README.md'} <= linked
