# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from tools.docs import command_options, reference_page


def test_the_page_is_current():
  current = reference_page.PAGE.read_text(encoding='utf-8')
  message = 'docs/reference.md is not current: run tools/reference.py.'
  assert current == reference_page.page(), message


def test_no_command_or_param_is_without_a_text():
  page = reference_page.PAGE.read_text(encoding='utf-8')
  assert [line for line in page.splitlines() if line.endswith('|  |')] == []


def test_no_flag_is_without_a_text():
  for call, main in reference_page.commands():
    found = command_options.inspect(main).flags
    assert [name for name, text in found.items() if not text] == [], call
