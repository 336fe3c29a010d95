# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What differs between two runs."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pipeline_testing as pt
from drawn_layers import building, running
from drawn_layers.draws import Draw

# Between a sum over the mini-batch and one over micro-batches, relative to the
# norm of a gradient; half-precision activations have 8 or 11 bits.
_SHOWN = 3
_TOLERANCES = {'float32': 2e-4, 'float16': 5e-2, 'bfloat16': 0.3}


def problems(draw: Draw) -> Iterator[str]:
  """Runs one variant after the other, and says what is not as it should be."""
  first, *others = draw.variants
  expected = running.run(draw, first)
  for variant in others:
    got = running.run(draw, variant)
    differences = _differences(expected, got, _not_same_bits)
    if differences:
      yield _told(differences, f'{first} and {variant}')
  if building.plain_agrees(draw.layers):
    tolerance = _TOLERANCES[draw.dtype]
    plain = running.run(draw, first, plain=True)
    shared = {
      name: plain[name]
      for name in expected
      if name in plain and not name.startswith('largest')
    }
    differences = _differences(
      shared,
      {name: expected[name] for name in shared},
      lambda a, b: _not_close(a, b, tolerance),
    )
    if differences:
      yield _told(differences, f'without a pipeline and {first}')


def _told(differences: list[str], what: str) -> str:
  lines = [what, *differences[:_SHOWN]]
  if len(differences) > _SHOWN:
    lines.append(f'and {len(differences) - _SHOWN} more')
  return '\n  '.join(lines)


def _differences(
  expected: running.Values,
  got: running.Values,
  compare: Callable[[Any, Any], str],
) -> list[str]:
  assert expected.keys() == got.keys(), (sorted(expected), sorted(got))
  found = []
  for name, value in expected.items():
    if (value is None) != (got[name] is None):
      text = f'one is None: {value}, {got[name]}'
    elif value is None:
      continue
    else:
      text = compare(value, got[name])
    if text:
      found.append(f'{name}: {text}')
  return found


def _not_same_bits(a: Any, b: Any) -> str:
  """How two values differ; '' if they do not."""
  if type(a) is not type(b):
    return f'{type(a).__name__} and {type(b).__name__}'
  if hasattr(a, 'indices'):
    parts = ((a.indices, b.indices), (a.values, b.values))
    return ''.join(_not_same_bits(x, y) for x, y in parts)
  a, b = np.asarray(a), np.asarray(b)
  if (a.dtype, a.shape) != (b.dtype, b.shape):
    return f'{a.dtype}{a.shape} and {b.dtype}{b.shape}'
  differs = (_bits(a) != _bits(b)) & ~(_is_nan(a) & _is_nan(b))
  if not differs.any():
    return ''
  x, y = a[differs].astype(np.float64), b[differs].astype(np.float64)
  return (
    f'{differs.sum()} of {a.size} numbers, by up to '
    f'{np.max(np.abs(x - y)):.2g}: {a[differs][0]!r} and {b[differs][0]!r}'
  )


def _bits(a: np.ndarray) -> np.ndarray:
  return a.view(np.dtype(f'u{a.dtype.itemsize}')) if a.dtype != bool else a


def _is_nan(a: np.ndarray) -> np.ndarray:
  return a != a


def _not_close(a: Any, b: Any, tolerance: float) -> str:
  a, b = (np.asarray(pt.dense(x)).astype(np.float64) for x in (a, b))
  error = np.linalg.norm(a - b)
  # An all but vanishing gradient is rounding errors.
  if error <= tolerance * (np.linalg.norm(a) + 1e-3):
    return ''
  return f'{error:.2g} apart, of norm {np.linalg.norm(a):.2g}'
