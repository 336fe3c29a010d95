# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest

from lingvo_gpipe.planner import quantities


@pytest.mark.parametrize(
  ('parse', 'text', 'value'),
  [
    (quantities.parse_flops, '45TFLOPS', 45e12),
    (quantities.parse_flops, ' 1.5 gflop/s', 1.5e9),
    (quantities.parse_flops, '4.5e13', 4.5e13),
    (quantities.parse_bandwidth, '12GB/s', 12e9),
    (quantities.parse_bandwidth, '16GiB/s', 16 * 2**30),
    (quantities.parse_bandwidth, '10Gbit/s', 1.25e9),
    (quantities.parse_bandwidth, '500', 500),
    (quantities.parse_seconds, '5us', 5e-6),
    (quantities.parse_seconds, '0.2ms', 2e-4),
    (quantities.parse_seconds, '3', 3),
  ],
)
def test_quantities_are_read_as_people_write_them(parse, text, value):
  assert parse(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
  ('parse', 'text'),
  [
    (quantities.parse_flops, 'fast'),
    (quantities.parse_flops, '0TFLOPS'),
    (quantities.parse_flops, '12GB/s'),
    (quantities.parse_bandwidth, '45TFLOPS'),
    (quantities.parse_bandwidth, '12iB/s'),
    (quantities.parse_bandwidth, ''),
    (quantities.parse_seconds, '5 minutes'),
    (quantities.parse_seconds, '-1'),
  ],
)
def test_other_text_is_refused_by_name(parse, text):
  with pytest.raises(ValueError, match='use text such as') as raised:
    parse(text)
  assert repr(text) in str(raised.value)


def test_quantities_are_written_in_readable_units():
  assert quantities.format_bytes(3 * 2**29) == '1.50 GiB'
  assert quantities.format_bytes(100) == '100 B'
  assert quantities.format_seconds(1.234) == '1.23 s'
  assert quantities.format_seconds(0.00456) == '4.56 ms'
  assert quantities.format_seconds(2e-6) == '2 us'
