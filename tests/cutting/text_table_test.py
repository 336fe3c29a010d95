# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

from lingvo_gpipe.cutting import text_table


def test_table_lines_up_and_is_markdown():
  text = text_table.table(['name', 'x'], [['a', '10'], ['longer', '3']])
  assert text.splitlines() == [
    '| name   |  x |',
    '| ------ | -: |',
    '| a      | 10 |',
    '| longer |  3 |',
  ]


def test_counts_are_short():
  assert text_table.short_count(82e6) == '82M'
  assert text_table.short_count(282.2e6) == '282.2M'
  assert text_table.short_count(1.05e9) == '1.05B'
