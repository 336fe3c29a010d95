# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from lingvo_gpipe.documentation import reference_page


def test_the_page_is_current():
  current = reference_page.PAGE.read_text(encoding='utf-8')
  message = 'docs/reference.md is not current: run tools/reference.py.'
  assert current == reference_page.page(), message


def test_no_flag_or_param_is_without_a_text():
  page = reference_page.PAGE.read_text(encoding='utf-8')
  assert [line for line in page.splitlines() if line.endswith('|  |')] == []
