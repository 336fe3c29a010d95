# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Speeds, sizes and times as people write them; ValueErrors give an example."""

import re

_DECIMAL = {'': 1, 'k': 10**3, 'm': 10**6, 'g': 10**9, 't': 10**12, 'p': 10**15}
_BINARY = {'': 1, 'k': 2**10, 'm': 2**20, 'g': 2**30, 't': 2**40, 'p': 2**50}
_SECONDS = {'': 1.0, 's': 1.0, 'ms': 1e-3, 'us': 1e-6, 'ns': 1e-9}
_NUMBER = r'\s*(\d+\.?\d*(?:e[+-]?\d+)?|\.\d+)\s*'


def _parse(text: str, units: str, what: str) -> tuple[float, list[str]]:
  match = re.fullmatch(f'{_NUMBER}{units}\\s*', text, re.IGNORECASE)
  if not match:
    raise ValueError(f'{text!r} is not {what}.')
  return float(match[1]), [(of or '').lower() for of in match.groups()[1:]]


def _above_0(text: str, number: float, what: str) -> float:
  if not number:
    raise ValueError(f'{text!r} is not {what}.')
  return number


def parse_flops(text: str) -> float:
  """FLOP/s, above 0, from text such as '45TFLOPS', '45 TFLOP/s' or '4.5e13'."""
  what = 'a speed of a device; use text such as 45TFLOPS'
  number, (unit,) = _parse(text, r'([kmgtp]?)(?:flops?(?:/s)?)?', what)
  return _above_0(text, number * _DECIMAL[unit], what)


def parse_bandwidth(text: str) -> float:
  """Bytes a second, above 0, from text as '12GB/s', '16GiB/s' or '10Gbit/s'."""
  what = 'a speed of a link; use text such as 12GB/s or 10Gbit/s'
  units = r'(?:([kmgtp])(i?))?(bit|b)?(?:/s|ps)?'
  number, (unit, binary, of) = _parse(text, units, what)
  factor = (_BINARY if binary else _DECIMAL)[unit]
  return _above_0(text, number * factor / (8 if of == 'bit' else 1), what)


def parse_seconds(text: str) -> float:
  """Seconds from text such as '5us', '0.2ms' or '1e-5'."""
  what = 'a time; use text such as 5us or 0.2ms'
  number, (unit,) = _parse(text, '(s|ms|us|ns)?', what)
  return number * _SECONDS[unit]


def parse_bytes(text: str) -> float:
  """Bytes from text such as '8GiB' or '500MB'; K, M, G and T are binary."""
  what = 'a size of memory; use text such as 8GiB'
  number, (unit,) = _parse(text, '([kmgt]?)(?:i?b)?', what)
  return number * _BINARY[unit]


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
