# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Makes any list of layers fit together, by adding and leaving out some.

- A reshape goes before a layer that takes another form.
- What `fork` opens, six values in place of one, `join` closes: before another
  form, and at the end.
- `put` puts the first value aside by a name of its own; `take` adds the last
  one that has its form, and is left out where there is none.
"""

from collections.abc import Sequence

from drawn_layers import catalogue, draws
from drawn_layers.draws import Layer

# These are no kinds of the catalogue.
FORK, TURN, JOIN, PUT, TAKE = 'fork', 'turn', 'join', 'put', 'take'
RESHAPE, SEQUENTIAL = 'reshape', 'sequential'


def fit(layers: Sequence[Layer], start: str) -> tuple[Layer, ...]:
  fitted: list[Layer] = []
  form, is_open, num_puts = start, False, 0
  puts: dict[str, str] = {}
  for layer in layers:
    if layer.kind == FORK and not is_open:
      is_open = True
    elif layer.kind == PUT:
      puts[form] = f'v{num_puts}'
      num_puts += 1
      layer = draws.layer(PUT, name=puts[form])
    elif layer.kind == TAKE and form in puts:
      layer = draws.layer(TAKE, name=puts[form])
    elif layer.kind in (FORK, TAKE) or (layer.kind == TURN and not is_open):
      continue
    wanted = form_of(layer)
    if wanted not in (catalogue.ANY, form):
      if is_open:
        fitted.append(draws.layer(JOIN))
        is_open = False
      fitted.append(draws.layer(RESHAPE, form=wanted))
      form = wanted
    fitted.append(layer)
  if is_open:
    fitted.append(draws.layer(JOIN))
  return tuple(fitted)


def form_of(layer: Layer) -> str:
  """The form that a layer returns, and takes unless it is an embedding."""
  if layer.kind not in catalogue.KINDS:
    return catalogue.ANY
  form = catalogue.KINDS[layer.kind].form
  return catalogue.SEQUENCE if form == catalogue.IDS else form
