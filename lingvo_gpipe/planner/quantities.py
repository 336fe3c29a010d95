# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Speeds, sizes and times as people write them."""

import re

_DECIMAL = {'': 1, 'k': 10**3, 'm': 10**6, 'g': 10**9, 't': 10**12, 'p': 10**15}
_BINARY = {'k': 2**10, 'm': 2**20, 'g': 2**30, 't': 2**40, 'p': 2**50}
_SECONDS = {'': 1.0, 's': 1.0, 'ms': 1e-3, 'us': 1e-6, 'ns': 1e-9}
_NUMBER = r'\s*(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)\s*'


def parse_flops(text: str) -> float:
  """FLOP/s from text such as '45TFLOPS', '45 TFLOP/s' or '4.5e13'.

  Raises:
    ValueError: It is not such text, or not above 0.
  """
  found = re.fullmatch(
    _NUMBER + r'([kmgtp]?)(?:flops?(?:/s)?)?\s*', text, re.IGNORECASE
  )
  if not found or not float(found[1]):
    raise ValueError(
      f'{text!r} is not a speed of a device; use text such as 45TFLOPS.'
    )
  return float(found[1]) * _DECIMAL[found[2].lower()]


def parse_bandwidth(text: str) -> float:
  """Bytes a second from text such as '12GB/s', '16GiB/s' or '10Gbit/s'.

  Raises:
    ValueError: It is not such text, or not above 0.
  """
  found = re.fullmatch(
    _NUMBER + r'([kmgtp]?)(i?)(bit|b)?(?:/s|ps)?\s*', text, re.IGNORECASE
  )
  is_binary = bool(found and found[3])
  if not found or not float(found[1]) or (is_binary and not found[2]):
    raise ValueError(
      f'{text!r} is not a speed of a link; use text such as 12GB/s or 10Gbit/s.'
    )
  unit = found[2].lower()
  factor = _BINARY[unit] if is_binary else _DECIMAL[unit]
  bits = (found[4] or '').lower() == 'bit'
  return float(found[1]) * factor / (8 if bits else 1)


def parse_seconds(text: str) -> float:
  """Seconds from text such as '5us', '0.2ms' or '1e-5'.

  Raises:
    ValueError: It is not such text.
  """
  found = re.fullmatch(_NUMBER + r'(s|ms|us|ns)?\s*', text, re.IGNORECASE)
  if not found:
    raise ValueError(f'{text!r} is not a time; use text such as 5us or 0.2ms.')
  return float(found[1]) * _SECONDS[(found[2] or '').lower()]


def format_bytes(number: float) -> str:
  """For example '1.50 GiB'."""
  for power, unit in ((4, 'TiB'), (3, 'GiB'), (2, 'MiB'), (1, 'KiB')):
    if number >= 1024**power:
      return f'{number / 1024**power:.2f} {unit}'
  return f'{number:.0f} B'


def format_seconds(seconds: float) -> str:
  """For example '1.23 s' or '4.56 ms'."""
  for factor, unit in ((1.0, 's'), (1e3, 'ms')):
    if seconds * factor >= 1:
      return f'{seconds * factor:.3g} {unit}'
  return f'{seconds * 1e6:.3g} us'
