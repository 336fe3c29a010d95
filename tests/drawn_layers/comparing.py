# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a draw."""

import dataclasses
import traceback

import numpy as np
import pipeline_testing as pt
from drawn_layers import building, running
from drawn_layers.draws import Draw

# Between a sum over the mini-batch and one over micro-batches, relative to the
# norm of a gradient; half-precision activations have 8 or 11 bits.
_TOLERANCES = {'float32': 2e-4, 'float16': 5e-2, 'bfloat16': 0.3}
# An all but vanishing gradient is rounding errors.
_VANISHING = {'float32': 1e-3, 'float16': 2e-3, 'bfloat16': 3e-2}
_SHOWN = 2000


def problem(draw: Draw) -> str:
  """What is wrong, after its kind and a colon; '' if nothing is."""
  try:
    return _difference(draw)
  except Exception as error:
    text = ''.join(traceback.format_exception(error))
    return f'{type(error).__name__}: {text[-_SHOWN:]}'


def _difference(draw: Draw) -> str:
  first, *others = draw.variants
  expected = running.run(draw, first)
  for variant in others:
    got = running.run(draw, variant)
    assert got.keys() == expected.keys(), (sorted(got), sorted(expected))
    for name, value in expected.items():
      text = pt.difference(value, got[name])
      if text:
        return f'numbers: {first} and {variant}\n  {name}: {text}'
  if building.plain_agrees(draw.layers):
    text = _not_plain(draw, draw.dtype, expected)
    # Half-precision sums over the whole mini-batch may be further off than the
    # pipeline's, which are float32.
    if text and draw.dtype != 'float32':
      text = _not_plain(draw, 'float32', expected)
    if text:
      return f'numbers: {first} and without a pipeline\n  {text}'
  return ''


def _not_plain(draw: Draw, dtype: str, got: running.Values) -> str:
  """Where the results are far from the plain layers' with a dtype."""
  plain = running.run(
    dataclasses.replace(draw, dtype=dtype), draw.variants[0], plain=True
  )
  for name, value in got.items():
    if name in plain and not name.startswith('largest'):
      text = _not_close(value, plain[name], draw.dtype)
      if text:
        return f'{name}: {text}'
  return ''


def _not_close(a, b, dtype: str) -> str:
  if a is None or b is None:
    return '' if a is b else f'{a} and {b}'
  a, b = (np.asarray(pt.dense(x)).astype(np.float64) for x in (a, b))
  # Half precision overflows in both.
  is_nan = np.isnan(a) & np.isnan(b)
  a, b = (np.where(is_nan, 0.0, x) for x in (a, b))
  error = np.linalg.norm(a - b)
  norm = np.linalg.norm(a) + _VANISHING[dtype]
  if error <= _TOLERANCES[dtype] * norm:
    return ''
  return f'{error:.2g} apart, of norm {np.linalg.norm(a):.2g}'
