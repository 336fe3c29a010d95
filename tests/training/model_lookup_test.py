# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import sys

import pytest

from lingvo_gpipe.training import model_lookup, user_error

_SOURCE = """
from lingvo import model_registry
from lingvo.core import base_model_params


@model_registry.RegisterSingleTaskModel
class Small(base_model_params.SingleTaskModelParams):
  pass


@model_registry.RegisterSingleTaskModel
class Large(base_model_params.SingleTaskModelParams):
  pass
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
  """Makes modules that register models; each test uses names of its own."""

  def make(module, source=_SOURCE):
    path = tmp_path.joinpath(*module.split('.')).with_suffix('.py')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)

  monkeypatch.syspath_prepend(tmp_path)
  before = set(sys.modules)
  yield make
  for name in set(sys.modules) - before:
    if getattr(sys.modules[name], '__file__', None) and str(tmp_path) in str(
      sys.modules[name].__file__
    ):
      del sys.modules[name]


def test_a_model_is_imported_by_its_name(package):
  package('lookup_a.images')
  assert model_lookup.find_model('lookup_a.images.Small') == (
    'lookup_a.images.Small'
  )


def test_the_key_that_lingvo_mangles_is_found_by_the_name(package):
  package('lookup_params.images')
  assert model_lookup.find_model('lookup_params.images.Large') == (
    'lookup_images.Large'
  )


@pytest.mark.parametrize(
  'wrong',
  ['lookup_b.images.Lagre', 'lookup_b.image.Large', 'Large', 'lookup_c.Large'],
)
def test_an_unknown_model_names_the_nearest(package, wrong):
  package('lookup_b.images')
  model_lookup.find_model('lookup_b.images.Small')
  with pytest.raises(user_error.UserError) as error:
    model_lookup.find_model(wrong)
  text = str(error.value)
  assert text.startswith(f'--model={wrong}: no such model. Nearest: ')
  assert 'lookup_b.images.Large' in text


def test_a_module_that_fails_to_import_something_says_so(package):
  package('lookup_d', 'import not_installed_anywhere\n')
  with pytest.raises(ModuleNotFoundError, match='not_installed_anywhere'):
    model_lookup.find_model('lookup_d.Large')


def test_the_models_of_this_repository_are_known():
  assert 'image.digits.AmoebaNetD' in model_lookup.known_models()
