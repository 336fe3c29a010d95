# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0

import sys

import pytest
from lingvo import model_imports, model_registry
from lingvo.core import base_model_params

from lingvo_gpipe import model_registration


class _Model(base_model_params.SingleTaskModelParams):
  """Stands in for a model of model_params/image/drawings.py."""


@pytest.fixture
def no_new_models(monkeypatch):
  registry = model_registry._ModelRegistryHelper
  monkeypatch.setattr(registry, '_MODEL_PARAMS', dict(registry._MODEL_PARAMS))


@pytest.mark.parametrize('package', model_registration.PACKAGES)
def test_key_is_file_and_class_without_model_params(
  no_new_models, monkeypatch, package
):
  monkeypatch.setattr(_Model, '__module__', f'{package}.image.drawings')
  monkeypatch.setattr('inspect.getfile', lambda cls: 'drawings.py')
  assert model_registration.RegisterSingleTaskModel(_Model) is _Model
  registered = model_registry._ModelRegistryHelper.GetAllRegisteredClasses()
  assert issubclass(registered['image.drawings._Model'], _Model)
  with pytest.raises(ValueError, match=r'image\.drawings\._Model'):
    model_registration.RegisterSingleTaskModel(_Model)  # There is one.


@pytest.fixture
def find_models(monkeypatch):
  lingvos = model_registration._import_params
  monkeypatch.setattr(model_imports, 'ImportParams', lingvos)
  model_registration.let_lingvo_find_models()


def test_lingvo_finds_our_models(find_models):
  model = model_registry.GetClass('image.digits.AmoebaNetD')
  assert model.__mro__[1].__module__ == 'model_params.image.digits'
  assert 'model_params.image.digits' in sys.modules


def test_lingvo_still_finds_other_models(find_models, monkeypatch, tmp_path):
  (tmp_path / 'elsewhere').mkdir()
  (tmp_path / 'elsewhere' / 'toy.py').write_text(
    'from lingvo import model_registry\n'
    'from lingvo.core import base_model_params\n'
    '@model_registry.RegisterSingleTaskModel\n'
    'class Toy(base_model_params.SingleTaskModelParams):\n'
    '  pass\n'
  )
  monkeypatch.syspath_prepend(tmp_path)
  assert model_registry.GetClass('elsewhere.toy.Toy').__name__ == 'Toy'


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('image.paintings.A', 'Could not find'),
    ('nowhere.digits.A', 'Could not find'),
    ('image.digits.Nothing', r'image\.digits\.Nothing'),
  ],
)
def test_unknown_names_are_lingvos_to_refuse(find_models, name, message):
  with pytest.raises(LookupError, match=message):
    model_registry.GetClass(name)
