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


@pytest.fixture
def model():
  return _params(
    task=_params(
      net=_params(num_micro_batches=4),
      others=[_params(num_micro_batches=2, schedule='gpipe'), _params()],
    ),
    eval={'deep': (_params(num_micro_batches=1),)},
  )


def test_all_of_a_name_are_set(model):
  pipeline_params.set_all(model, 'num_micro_batches', 8, 'micro_batches')
  assert model.task.net.num_micro_batches == 8
  assert model.task.others[0].num_micro_batches == 8
  assert model.eval['deep'][0].num_micro_batches == 8


def test_the_outermost_is_found(model):
  assert pipeline_params.find(model, 'num_micro_batches') == 4
  assert pipeline_params.find(model, 'schedule') == 'gpipe'
  assert pipeline_params.find(model, 'absent') is None


def test_no_such_param_is_an_error_that_names_the_flag(model):
  with pytest.raises(
    user_error.UserError, match=r'--recompute=always.*no Param recompute'
  ):
    pipeline_params.set_all(model, 'recompute', 'always', 'recompute')
