# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import importlib
import os
import sys

import pytest

from build_tools import declared_only


@pytest.fixture
def trees(tmp_path, monkeypatch):
  """Sources, and what is declared of them, both on the path."""
  sources, links = tmp_path / 'sources', tmp_path / 'links'
  for directory in (sources, links):
    directory.mkdir()
  for name in ('known_module_x', 'hidden_module_x'):
    (sources / f'{name}.py').write_text('')
  (links / 'known_module_x.py').symlink_to(sources / 'known_module_x.py')
  monkeypatch.syspath_prepend(links)
  monkeypatch.syspath_prepend(sources)
  package = tmp_path / 'elsewhere' / 'package_x'
  package.mkdir(parents=True)
  (package / '__init__.py').touch()
  (sources / 'package_x').symlink_to(package)
  monkeypatch.syspath_prepend(package.parent)
  finder = declared_only.DeclaredOnly(links, sources)
  monkeypatch.setattr(sys, 'meta_path', [finder, *sys.meta_path])
  yield sources, links
  sys.modules.pop('known_module_x', None)


def test_a_declared_module_is_found_where_it_is_declared(trees):
  module = importlib.import_module('known_module_x')
  assert module.__file__ == str(trees[1] / 'known_module_x.py')


def test_an_undeclared_module_is_named(trees):
  path = str(trees[0] / 'hidden_module_x.py')
  with pytest.raises(ModuleNotFoundError, match='does not declare') as error:
    importlib.import_module('hidden_module_x')
  assert path in str(error.value)
  assert error.value.name == 'hidden_module_x'


def test_another_copy_of_an_undeclared_package_is_hidden_too(trees):
  with pytest.raises(ModuleNotFoundError, match='elsewhere'):
    importlib.import_module('package_x')


def test_other_modules_are_as_ever(trees):
  assert importlib.import_module('wave').__name__ == 'wave'
  with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere_x'"):
    importlib.import_module('nowhere_x')


def test_an_environment_among_the_sources_counts_as_installed(
  trees, monkeypatch
):
  monkeypatch.setattr(sys, 'prefix', str(trees[0]))
  module = importlib.import_module('known_module_x')
  assert module.__file__ == str(trees[0] / 'known_module_x.py')


def test_programs_begin_where_bazel_was_called(tmp_path, monkeypatch):
  monkeypatch.chdir('/')
  monkeypatch.setenv('BUILD_WORKING_DIRECTORY', str(tmp_path))
  monkeypatch.setattr(sys, 'meta_path', list(sys.meta_path))
  declared_only.install()
  assert os.getcwd() == str(tmp_path)
  assert 'BUILD_WORKING_DIRECTORY' not in os.environ
