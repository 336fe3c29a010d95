# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads and sets the pipeline's Params wherever a model keeps them.

A model may hold its `PipeliningLayer` at any depth, and may repeat its Params
at levels above it. All that carry the same name are set alike.
"""

from lingvo.core import hyperparams

from lingvo_gpipe.training import user_error


def walk(value):
  """Yields all Params in `value`, outermost first."""
  if isinstance(value, hyperparams.Params):
    yield value
    value = dict(value.IterParams())
  if isinstance(value, dict):
    value = list(value.values())
  if isinstance(value, (list, tuple)):
    for child in value:
      yield from walk(child)


def find(params, name):
  """The value of the outermost Param `name`, None if there is none."""
  return next((p.Get(name) for p in walk(params) if name in p), None)


def find_layers(params, cls):
  """Yields the Params of all layers of class `cls`, outermost first."""
  for p in walk(params):
    if 'cls' in p and isinstance(p.cls, type) and issubclass(p.cls, cls):
      yield p


def find_layer(params, cls):
  """Returns the outermost Params of a layer of class `cls`, or None."""
  return next(find_layers(params, cls), None)


def set_all(params, name, value, flag):
  """Sets every Param `name` as `flag` asks; UserError if there is none."""
  places = [p for p in walk(params) if name in p]
  if not places:
    raise user_error.UserError(
      f'--{flag}={value}: the model has no Param {name}; leave the flag out.'
    )
  for p in places:
    p.Set(**{name: value})
