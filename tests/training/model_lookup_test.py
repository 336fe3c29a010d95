# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import sys

import pytest

from lingvo_gpipe import model_registration
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
    if str(tmp_path) in str(getattr(sys.modules[name], '__file__', '')):
      del sys.modules[name]


def test_the_key_that_lingvo_mangles_is_found_by_the_name(package):
  package('lookup_params.images')
  assert model_lookup.find_model('lookup_params.images.Large') == (
    'lookup_images.Large'
  )


@pytest.mark.parametrize(
  ('module', 'wrong', 'said'),
  [
    ('look_a.images', 'look_a.images.Lagre', 'Nearest: look_a.images.Large'),
    ('look_b.images', 'look_b.image.Large', 'Nearest: look_b.images.Large'),
    ('look_c.images', 'Large', 'Nearest: '),
    ('z_e', 'z_e.Quuuuuuuuux', 'z_e has z_e.Large, z_e.Small.'),
    ('z_f', 'z_f.NotAModel', 'Class NotAModel of z_f is not registered'),
    ('z_g', 'no_such_place.Xyzzy', 'There is no module no_such_place in mode'),
    ('z_h', 'Xyzzy', 'A name is MODULE.CLASS.'),
  ],
)
def test_what_is_missing_of_a_model_is_said(package, module, wrong, said):
  package(module, f'{_SOURCE}\n\nclass NotAModel:\n  pass\n')
  model_lookup.find_model(f'{module}.Small')
  with pytest.raises(user_error.UserError) as error:
    model_lookup.find_model(wrong)
  start = f'--model={wrong}: no such model. {said}'
  assert str(error.value).startswith(start)


@pytest.mark.parametrize(
  ('source', 'said'),
  [
    (
      'import sys\nimport not_installed_anywhere\n',
      'line 2: import not_installed_anywhere: ModuleNotFoundError: No module',
    ),
    (
      'from lingvo.core import layers\nx = layers.NoSuchLayer.Params()\n',
      'line 2: x = layers.NoSuchLayer.Params(): AttributeError: module',
    ),
    # Raised by a package, asked for by the line.
    (
      'import numpy\nx = numpy.zeros(-1)\n',
      'line 2: x = numpy.zeros(-1): ValueError: negative dimensions',
    ),
    ('\nx = (1,\n', "line 2: x = (1,: SyntaxError: '(' was never closed"),
  ],
)
def test_a_module_that_cannot_be_imported_says_at_which_line(
  package, tmp_path, source, said
):
  package('lookup_d', source)
  with pytest.raises(user_error.UserError) as error:
    model_lookup.find_model('lookup_d.Large')
  text = str(error.value)
  assert text.startswith(
    '--model=lookup_d.Large: its module cannot be imported. '
    f'{tmp_path}/lookup_d.py, {said}'
  )
  assert '\n' not in text


def test_models_of_a_user_come_before_ours(package, monkeypatch):
  packages = ('lookup_u', 'lookup_v')
  monkeypatch.setattr(model_registration, 'PACKAGES', packages)
  for place in ('lookup_u', 'lookup_u.both', 'lookup_v', 'lookup_v.both'):
    package(f'{place}.__init__', '')
  package('lookup_u.both.same')
  package('lookup_v.both.same', 'raise AssertionError')
  package('lookup_v.both.ours')
  for name, owner in (('same', 'lookup_u'), ('ours', 'lookup_v')):
    model = f'both.{name}.Small'
    assert model_lookup.find_model(model) == f'{owner}.{model}'
  known = set(model_lookup.known_models())
  assert {'both.same.Small', 'both.ours.Large'} <= known
