# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Speeds, sizes and times as people write them."""

import re

_DECIMAL = {'': 1, 'k': 10**3, 'm': 10**6, 'g': 10**9, 't': 10**12, 'p': 10**15}
_BINARY = {'': 1, 'k': 2**10, 'm': 2**20, 'g': 2**30, 't': 2**40, 'p': 2**50}
_SECONDS = {'': 1.0, 's': 1.0, 'ms': 1e-3, 'us': 1e-6, 'ns': 1e-9}
_MEMORY = re.compile(r'\s*([\d.]+)\s*([kmgt]?)(i?b)?\s*', re.IGNORECASE)
_NUMBER = r'\s*(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)\s*'


def parse_flops(text: str) -> float:
  """FLOP/s from text such as '45TFLOPS', '45 TFLOP/s' or '4.5e13'.

  Raises:
    ValueError: It is not such text, or not above 0.
  """
  match = re.fullmatch(
    _NUMBER + r'([kmgtp]?)(?:flops?(?:/s)?)?\s*', text, re.IGNORECASE
  )
  if not match or not float(match[1]):
    raise ValueError(
      f'{text!r} is not a speed of a device; use text such as 45TFLOPS.'
    )
  return float(match[1]) * _DECIMAL[match[2].lower()]


def parse_bandwidth(text: str) -> float:
  """Bytes a second from text such as '12GB/s', '16GiB/s' or '10Gbit/s'.

  Raises:
    ValueError: It is not such text, or not above 0.
  """
  match = re.fullmatch(
    _NUMBER + r'([kmgtp]?)(i?)(bit|b)?(?:/s|ps)?\s*', text, re.IGNORECASE
  )
  is_binary = bool(match and match[3])
  if not match or not float(match[1]) or (is_binary and not match[2]):
    raise ValueError(
      f'{text!r} is not a speed of a link; use text such as 12GB/s or 10Gbit/s.'
    )
  unit = match[2].lower()
  factor = _BINARY[unit] if is_binary else _DECIMAL[unit]
  bits = (match[4] or '').lower() == 'bit'
  return float(match[1]) * factor / (8 if bits else 1)


def parse_seconds(text: str) -> float:
  """Seconds from text such as '5us', '0.2ms' or '1e-5'.

  Raises:
    ValueError: It is not such text.
  """
  match = re.fullmatch(_NUMBER + r'(s|ms|us|ns)?\s*', text, re.IGNORECASE)
  if not match:
    raise ValueError(f'{text!r} is not a time; use text such as 5us or 0.2ms.')
  return float(match[1]) * _SECONDS[(match[2] or '').lower()]


def parse_bytes(text: str) -> float:
  """Bytes from text such as '8GiB' or '500MB'; K, M, G and T are binary.

  Raises:
    ValueError: It is not such text.
  """
  match = _MEMORY.fullmatch(text)
  if not match:
    raise ValueError(
      f'{text!r} is not a size of memory; use text such as 8GiB.'
    )
  return float(match[1]) * _BINARY[match[2].lower()]


def format_bytes(number: float, digits: int = 2) -> str:
  """For example '1.50 GiB'."""
  for power, unit in ((4, 'TiB'), (3, 'GiB'), (2, 'MiB'), (1, 'KiB')):
    if number >= 1024**power:
      return f'{number / 1024**power:.{digits}f} {unit}'
  return f'{number:.0f} B'


def format_seconds(seconds: float) -> str:
  """For example '1.23 s' or '4.56 ms'."""
  for factor, unit in ((1.0, 's'), (1e3, 'ms')):
    if seconds * factor >= 1:
      return f'{seconds * factor:.3g} {unit}'
  return f'{seconds * 1e6:.3g} us'
