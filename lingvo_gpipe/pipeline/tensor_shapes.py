# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shapes and dtypes of tensors, as text that Lingvo's Params can hold.

Lingvo writes Params to text and reads them back, from a command line too, but
reads no tensor specs. So Params that name shapes take text as well:

```
  'float32[16,8,8,1]'                       one tensor
  'float32[16,32,64], int32[16,32], None'   several arguments
  'ids=int32[16,32], paddings=float32[16,32]'   a NestedMap
```
"""

import re
from typing import Any

import lingvo.compat as tf
from lingvo.core import py_utils

_ENTRY = re.compile(
  r'\s*(?:(?P<name>[A-Za-z]\w*)\s*=\s*)?'
  r'(?:(?P<none>None)|(?P<dtype>\w+)\s*\[(?P<shape>[\w?,\s]*)\])\s*(?:,|$)'
)
# How a dimension that is not known is written; `parse` refuses it by name.
_UNKNOWN = ('None', '?')


def parse(value: Any, what: str) -> Any:
  """Returns a nest of tensor specs.

  Args:
    value: Text as above; or a nest of `tf.TensorSpec`s, which is returned as
      it is.
    what: The Param, for errors.

  Returns:
    A NestedMap if the text names its tensors, a spec if it has one, else a
    tuple.

  Raises:
    ValueError: The text is not of this form, or a shape is not fully known.
  """
  given = value
  if isinstance(value, str):
    value = _parse_text(value, what)
  for spec in tf.nest.flatten(value):
    if spec is None:
      continue
    if not isinstance(spec, tf.TensorSpec):
      raise ValueError(
        f'{what} is {given!r}; {spec!r} in it is not a tf.TensorSpec. Write '
        "text such as 'float32[16,8,8,1]', or tensor specs."
      )
    if not spec.shape.is_fully_defined():
      raise ValueError(
        f'{what} is {given!r}; every dimension must be known, '
        'that of the batch too: the number of examples in a micro-batch.'
      )
  return value


def _parse_text(text: str, what: str) -> Any:
  entries: list[tuple[str | None, tf.TensorSpec | None]] = []
  position = 0
  while position < len(text):
    match = _ENTRY.match(text, position)
    if match is None:
      raise ValueError(
        f'{what} is {text!r}, which cannot be read from {text[position:]!r} '
        "on. Write it like 'float32[16,8,8,1]', several tensors with commas "
        "between them, names like 'ids=int32[16,32]'."
      )
    entries.append((match['name'], _spec(match, what)))
    position = match.end()
  names = [name for name, _ in entries]
  if any(names):
    if not all(names) or len(set(names)) < len(names):
      raise ValueError(
        f'{what} is {text!r}; either all of its tensors have names, which '
        'differ, or none has one.'
      )
    return py_utils.NestedMap(dict(entries))
  specs = tuple(spec for _, spec in entries)
  return specs[0] if len(specs) == 1 else specs


def _spec(match: re.Match[str], what: str) -> tf.TensorSpec | None:
  if match['none']:
    return None
  try:
    dtype = tf.as_dtype(match['dtype'])
  except TypeError as error:
    raise ValueError(
      f'{what} has the dtype {match["dtype"]!r}, which TensorFlow does not '
      "know; use 'float32', 'bfloat16', 'int32' and the like."
    ) from error
  sizes = [size.strip() for size in match['shape'].split(',') if size.strip()]
  if not all(size.isdecimal() or size in _UNKNOWN for size in sizes):
    raise ValueError(
      f'{what} has the shape [{match["shape"]}]; write whole numbers.'
    )
  return tf.TensorSpec(
    [None if size in _UNKNOWN else int(size) for size in sizes], dtype
  )
