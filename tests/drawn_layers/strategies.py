# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies of draws. What comes first is what draws shrink to."""

import dataclasses
import functools
from typing import Any

from drawn_layers import building, catalogue, draws, fitting
from drawn_layers.draws import Draw, Layer, Variant
from hypothesis import strategies as st

from lingvo_gpipe import schedules

# Not all layers can have others than float32.
_DTYPES = (*draws.DTYPES[:1] * 3, *draws.DTYPES[1:])
_MOST_LAYERS = 4
_MOST_CELLS = 4
_RARELY = st.sampled_from((False,) * 5 + (True,))
_TUPLE_LAYERS = (fitting.FORK, fitting.TURN, fitting.PUT, fitting.TAKE)


@st.composite
def random_draws(draw: Any) -> Draw:
  dtype = draw(st.sampled_from(_DTYPES))
  middle = draw(_lists(dtype))
  start = catalogue.ROWS
  if draw(_RARELY):
    start = catalogue.SEQUENCE
    middle = [draw(_layer_of('embedding')), *middle]
  layers = fitting.fit(middle, start) or (draws.layer('dense'),)
  loss_inside = draw(st.sampled_from((True, False)))
  first = Variant(recompute=draw(st.sampled_from(('never', 'always'))))
  others = _variants(building.num_layers(layers), loss_inside)
  time, width = draw(st.sampled_from(((1, 8), (2, 4), (4, 8))))
  return Draw(
    layers=layers,
    variants=(
      first,
      *draw(st.lists(others, min_size=1, max_size=2, unique=True)),
    ),
    time=time,
    width=width,
    batch=draw(st.sampled_from((8, 7, 1, 2, 4))),
    num_micro_batches=draw(st.sampled_from((2, 1, 4, 3))),
    dtype=dtype,
    weights=draw(st.sampled_from(draws.WEIGHTS)),
    loss_inside=loss_inside,
    input_gradient=start == catalogue.ROWS and draw(st.booleans()),
  )


@functools.cache
def _lists(dtype: str) -> st.SearchStrategy[list[Layer]]:
  kinds = {
    name: kind
    for name, kind in catalogue.KINDS.items()
    if dtype in kind.dtypes and kind.form != catalogue.IDS
  }
  choices = [_layer_of(n) for n, kind in kinds.items() if not kind.is_rare]
  choices += [st.just(draws.layer(kind)) for kind in _TUPLE_LAYERS]
  rare = [_layer_of(n) for n, kind in kinds.items() if kind.is_rare]
  choices += [st.one_of(rare)] * 2
  subs = [_layer_of(n) for n, k in kinds.items() if k.form == catalogue.ANY]
  sequential = st.builds(
    lambda subs, repeat: draws.layer(fitting.SEQUENTIAL, *subs, repeat=repeat),
    st.lists(st.one_of(subs), min_size=1, max_size=2),
    st.sampled_from((1, 2)),
  )
  return st.lists(
    st.one_of(*choices, sequential), min_size=2, max_size=_MOST_LAYERS
  )


@functools.cache
def _layer_of(name: str) -> st.SearchStrategy[Layer]:
  options = {}
  for key, values in catalogue.KINDS[name].options.items():
    if isinstance(values, catalogue.Some):
      one = st.sampled_from(values.values)
      options[key] = st.lists(one, min_size=1, max_size=values.most).map(tuple)
    else:
      options[key] = st.sampled_from(values)
  return st.builds(draws.layer, st.just(name), **options)


@st.composite
def _variants(draw: Any, num_layers: int, loss_inside: bool) -> Variant:
  cuts = st.lists(
    st.integers(1, max(1, num_layers - 1)),
    min_size=min(1, num_layers - 1),
    max_size=min(_MOST_CELLS, num_layers) - 1,
    unique=True,
  )
  schedule_names = schedules.SCHEDULE_NAMES if loss_inside else ('gpipe',)
  variant = Variant(
    cuts=tuple(sorted(draw(cuts))),
    schedule=draw(st.sampled_from(schedule_names)),
    recompute=draw(
      st.sampled_from(('never', 'always', 'except_last'))
      | st.lists(st.integers(0, num_layers), max_size=num_layers, unique=True)
      .map(sorted)
      .map(tuple)
    ),
    num_devices=draw(st.sampled_from((0, 0, 1, 2))),
    optimised=draw(st.sampled_from((True, True, False))),
  )
  if not variant.is_possible:
    variant = dataclasses.replace(variant, schedule='zb_h1')
  return variant
