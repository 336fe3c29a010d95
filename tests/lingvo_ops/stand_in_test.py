# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import inspect
import json
import subprocess
import sys

import pytest

from lingvo_gpipe.lingvo_ops import host, stand_in

_PACKAGE = 'lingvo.core.ops'
_SHORTFALL = host.Shortfall(
  '/lib/x_ops.so', '2.36', ('CXXABI_1.3.15', 'GLIBC_2.38')
)


@pytest.fixture
def clean_modules(monkeypatch):
  """sys.modules without Lingvo's ops, for this test."""
  monkeypatch.delitem(sys.modules, stand_in.MODULE_NAME, raising=False)
  monkeypatch.delitem(sys.modules, _PACKAGE, raising=False)
  return sys.modules


def _set_shortfall(monkeypatch, shortfall):
  monkeypatch.setattr(host, 'find_library', lambda *_: '/lib/x_ops.so')
  monkeypatch.setattr(host, 'find_shortfall', lambda _: shortfall)


def test_where_the_library_does_not_load_the_stand_in_is_installed_once(
  clean_modules, monkeypatch
):
  _set_shortfall(monkeypatch, _SHORTFALL)
  module = stand_in.install()
  assert isinstance(module, stand_in.StandIn)
  assert clean_modules[stand_in.MODULE_NAME] is module
  assert stand_in.install() is module
  monkeypatch.delitem(clean_modules, stand_in.MODULE_NAME)


def test_where_the_library_loads_nothing_is_replaced(
  clean_modules, monkeypatch
):
  _set_shortfall(monkeypatch, None)
  assert stand_in.install() is None
  assert stand_in.MODULE_NAME not in clean_modules


def test_without_a_library_nothing_is_replaced(clean_modules, monkeypatch):
  monkeypatch.setattr(host, 'find_library', lambda *_: None)
  assert stand_in.install() is None
  assert stand_in.MODULE_NAME not in clean_modules


@pytest.mark.parametrize('name', [_PACKAGE, stand_in.MODULE_NAME])
def test_ops_that_are_imported_already_stay(clean_modules, monkeypatch, name):
  _set_shortfall(monkeypatch, _SHORTFALL)
  module = type(sys)(name)
  monkeypatch.setitem(clean_modules, name, module)
  assert stand_in.install() is None
  assert clean_modules[name] is module
  if name != stand_in.MODULE_NAME:
    assert stand_in.MODULE_NAME not in clean_modules


def test_an_unavailable_op_raises_when_it_is_used_and_says_what_to_do(
  stand_in_ops,
):
  op = stand_in_ops.generic_input
  assert op.__name__ == 'generic_input'
  with pytest.raises(stand_in.UnavailableOpError) as error:
    op('a', batch=3)
  for part in (
    "'generic_input'",
    '/lib/x_ops.so',
    'glibc found 2.36',
    'glibc needed 2.38',
    'Debian 13',
    'Ubuntu 24.04',
    'tf.data',
  ):
    assert part in str(error.value)


def test_where_glibc_is_new_enough_the_error_names_what_is_not():
  shortfall = host.Shortfall('/lib/x_ops.so', '2.40', ('CXXABI_1.3.15',))
  with pytest.raises(stand_in.UnavailableOpError, match='CXXABI_1') as e:
    stand_in.StandIn('x', shortfall).generic_input()
  assert 'glibc found 2.40, which is new enough' in str(e.value)


def test_names_of_the_module_protocol_are_no_ops(stand_in_ops, monkeypatch):
  for name in ('__file__', '__path__', '__wrapped__', '_private'):
    assert not hasattr(stand_in_ops, name)
  # This asks every module for its file.
  monkeypatch.setitem(sys.modules, 'any_name', stand_in_ops)
  assert inspect.stack()[0].function.startswith('test_names')
  assert 'random_permutation_sequence' in dir(stand_in_ops)


@pytest.mark.parametrize('name', sorted(stand_in.IMPLEMENTATIONS))
def test_every_implementation_is_there_and_documented(stand_in_ops, name):
  op = getattr(stand_in_ops, name)
  assert op.__name__ == name
  assert len(op.__doc__) > 40
  assert getattr(stand_in_ops, name) is op


@pytest.mark.parametrize('name', sorted(stand_in.IMPLEMENTATIONS))
def test_every_implementation_has_lingvos_arguments(
  stand_in_ops, native_ops, name
):
  ours, lingvos = (
    inspect.signature(getattr(module, name)).parameters
    for module in (stand_in_ops, native_ops)
  )
  assert list(ours) == list(lingvos)


def _run_python(code):
  result = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=False
  )
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout.splitlines()[-1])


def test_importing_the_package_loads_neither_tensorflow_nor_the_library():
  modules, maps = _run_python(
    'import json, sys, lingvo_gpipe\n'
    'print(json.dumps([list(sys.modules), open("/proc/self/maps").read()]))'
  )
  assert 'lingvo_gpipe' in modules
  assert not {'tensorflow', 'lingvo', 'numpy'} & set(modules)
  assert 'x_ops.so' not in maps


def test_lingvo_imports_after_the_package_with_the_right_ops():
  replaced, loaded, missing = _run_python(
    'import json, lingvo_gpipe\n'
    'from lingvo.core import layers, ops, py_utils\n'
    'from lingvo_gpipe.lingvo_ops import stand_in\n'
    'print()\n'
    'print(json.dumps([\n'
    '  isinstance(ops.gen_x_ops, stand_in.StandIn),\n'
    '  "x_ops.so" in open("/proc/self/maps").read(),\n'
    '  [n for n in stand_in.IMPLEMENTATIONS if not hasattr(ops, n)],\n'
    ']))'
  )
  library = host.find_library('lingvo', 'core', 'ops', 'x_ops.so')
  assert replaced == (host.find_shortfall(library) is not None)
  assert loaded == (not replaced)
  assert missing == []
