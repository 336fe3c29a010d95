# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

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


@pytest.mark.parametrize(
  ('tool', 'module'),
  [
    # timeit has a main as well, as random has from Python 3.13 on.
    ('import timeit\n\ndef main(): pass\n', 'tool'),
    (
      'import timeit\nfrom lingvo_gpipe.planner import plan_command\n',
      'lingvo_gpipe.planner.plan_command',
    ),
  ],
)
def test_the_main_of_a_tool_is_not_one_of_the_standard_library(
  tmp_path, tool, module
):
  file = tmp_path / 'tool.py'
  file.write_text(tool)
  main = reference_page._main_of(file)
  assert (main.__name__, main.__module__) == ('main', module)
