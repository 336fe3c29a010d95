# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
from lingvo.core import hyperparams

from lingvo_gpipe.training import pipeline_params, user_error


def _params(**values):
  p = hyperparams.Params()
  for name, value in values.items():
    p.Define(name, value, '')
  return p


def test_the_outermost_is_found_and_all_of_a_name_are_set():
  model = _params(
    net=_params(m=4),
    others=[_params(m=2, schedule='gpipe'), _params()],
    eval={'deep': (_params(m=1),)},
  )
  assert pipeline_params.find(model, 'm') == 4
  assert pipeline_params.find(model, 'schedule') == 'gpipe'
  assert pipeline_params.find(model, 'absent') is None
  pipeline_params.set_all(model, 'm', 8, 'micro_batches')
  found = [model.net, model.others[0], model.eval['deep'][0]]
  assert [p.m for p in found] == [8, 8, 8]
  with pytest.raises(
    user_error.UserError, match=r'--re=always.*no Param absent'
  ):
    pipeline_params.set_all(model, 'absent', 'always', 're')
