# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
from drawn_layers import fitting
from drawn_layers.draws import layer

_DENSE, _LSTM = layer('dense'), layer('lstm', cell='gru', reverse=False)
_FORK, _JOIN = layer('fork'), layer('join')
_TO_SEQUENCE = layer('reshape', form='sequence')


def _fit(*layers):
  return fitting.fit(layers, 'rows')


def test_another_form_needs_a_reshape():
  assert _fit(_DENSE, _LSTM, _DENSE, _LSTM) == (
    *(_DENSE, _TO_SEQUENCE, _LSTM),
    *(_DENSE, _LSTM),
  )


def test_what_is_forked_is_joined():
  assert _fit(_FORK, _DENSE) == (_FORK, _DENSE, _JOIN)
  assert _fit(_FORK, _LSTM) == (_FORK, _JOIN, _TO_SEQUENCE, _LSTM)


def test_what_has_nothing_to_work_on_is_left_out():
  assert _fit(layer('turn'), layer('take'), _FORK, _FORK) == (_FORK, _JOIN)


def test_a_value_is_taken_in_the_form_in_which_it_was_put():
  put, take = layer('put'), layer('take')
  named = {i: layer('put', name=f'v{i}') for i in range(3)}
  assert _fit(*[put] * 3, take) == (
    *named.values(),
    layer('take', name='v2'),
  )
  assert _fit(put, _LSTM, take) == (named[0], _TO_SEQUENCE, _LSTM)
