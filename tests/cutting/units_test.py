# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.cutting import units


@pytest.mark.parametrize(
  ('parse', 'text', 'value'),
  [
    (units.parse_flops, '45TFLOPS', 45e12),
    (units.parse_flops, ' 1.5 gflop/s', 1.5e9),
    (units.parse_flops, '4.5e13', 4.5e13),
    (units.parse_bandwidth, '12GB/s', 12e9),
    (units.parse_bandwidth, '16GiB/s', 16 * 2**30),
    (units.parse_bandwidth, '10Gbit/s', 1.25e9),
    (units.parse_bandwidth, '500', 500),
    (units.parse_seconds, '5us', 5e-6),
    (units.parse_seconds, '0.2ms', 2e-4),
    (units.parse_seconds, '3', 3),
    (units.parse_bytes, '8GiB', 2**33),
    (units.parse_bytes, '500mb', 500 * 2**20),
    (units.parse_bytes, ' 1.5 k ', 1536),
    (units.parse_bytes, '7', 7),
  ],
)
def test_numbers_are_read_as_people_write_them(parse, text, value):
  assert parse(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
  ('parse', 'text'),
  [
    (units.parse_flops, 'fast'),
    (units.parse_flops, '0TFLOPS'),
    (units.parse_flops, '12GB/s'),
    (units.parse_bandwidth, '45TFLOPS'),
    (units.parse_bandwidth, '12iB/s'),
    (units.parse_bandwidth, ''),
    (units.parse_seconds, '5 minutes'),
    (units.parse_seconds, '-1'),
    (units.parse_bytes, ''),
    (units.parse_bytes, '8GB/s'),
    (units.parse_bytes, '1.2.3G'),
    (units.parse_bytes, '-1G'),
  ],
)
def test_other_text_is_refused_by_name(parse, text):
  with pytest.raises(ValueError, match='use text such as') as raised:
    parse(text)
  assert repr(text) in str(raised.value)


def test_numbers_are_written_in_readable_units():
  assert units.format_bytes(3 * 2**29) == '1.50 GiB'
  assert units.format_bytes(100) == '100 B'
  assert units.format_seconds(1.234) == '1.23 s'
  assert units.format_seconds(0.00456) == '4.56 ms'
  assert units.format_seconds(2e-6) == '2 us'
