# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.benchmark import table


def test_table_lines_up_and_is_markdown():
  text = table.table(['name', 'x'], [['a', '10'], ['longer', '3']])
  assert text.splitlines() == [
    '| name   |  x |',
    '| ------ | -: |',
    '| a      | 10 |',
    '| longer |  3 |',
  ]


def test_rows_must_fit_the_header():
  with pytest.raises(ValueError, match='does not fit'):
    table.table(['a', 'b'], [['1']])


def test_numbers():
  assert table.megabytes(3 * 2**20) == '3'
  assert table.percent(0.987) == '99%'
  assert table.signed_percent(0.051) == '+5%'
  assert table.signed_percent(-0.2) == '-20%'
