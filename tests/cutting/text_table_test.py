# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.cutting import text_table


def test_table_lines_up_and_is_markdown():
  text = text_table.table(['name', 'x'], [['a', '10'], ['longer', '3']])
  assert text.splitlines() == [
    '| name   |  x |',
    '| ------ | -: |',
    '| a      | 10 |',
    '| longer |  3 |',
  ]


def test_rows_must_fit_the_header():
  with pytest.raises(ValueError, match='does not fit'):
    text_table.table(['a', 'b'], [['1']])


def test_numbers():
  assert text_table.megabytes(3 * 2**20) == '3'
  assert text_table.percent(0.987) == '99%'
  assert text_table.signed_percent(0.051) == '+5%'
  assert text_table.signed_percent(-0.2) == '-20%'


def test_counts_are_short():
  assert text_table.short_count(82e6) == '82M'
  assert text_table.short_count(282.2e6) == '282.2M'
  assert text_table.short_count(1.05e9) == '1.05B'
