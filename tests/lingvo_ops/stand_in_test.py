# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import importlib.util
import inspect
import json
import re
import subprocess
import sys

import pytest
import tensorflow as tf

from lingvo_gpipe.lingvo_ops import stand_in


def _failing(message):
  def load(path):
    raise tf.errors.NotFoundError(None, None, message)

  return load


@pytest.fixture
def find(monkeypatch, tmp_path):
  """find(load, file): what is found where loading `file` does as `load`."""

  def find(load, file='x_ops.so'):
    (tmp_path / file).touch()
    monkeypatch.setattr(tf, 'load_op_library', load)
    return stand_in.Finder().find_spec(stand_in.MODULE_NAME, [str(tmp_path)])

  return find


def test_where_the_host_is_too_old_for_the_library_the_stand_in_is_found(find):
  message = "/lib/libc.so.6: version `GLIBC_2.38' not found (required by x)"
  module = importlib.util.module_from_spec(find(_failing(message)))
  assert isinstance(module, stand_in.StandIn)
  with pytest.raises(stand_in.UnavailableOpError, match=re.escape(message)):
    module.generic_input()


@pytest.mark.parametrize(
  'load', [lambda path: None, _failing('x_ops.so: undefined symbol: _ZN3')]
)
def test_a_library_that_loads_or_is_broken_is_left_to_lingvo(find, load):
  assert find(load) is None


def test_without_a_library_nothing_is_tried(find):
  assert find(_failing("version `X' not found"), 'other.so') is None


def test_installing_again_changes_nothing():
  finders = list(sys.meta_path)
  assert any(isinstance(finder, stand_in.Finder) for finder in finders)
  stand_in.install()
  assert sys.meta_path == finders


def test_an_unavailable_op_raises_when_it_is_used_and_says_what_to_do(
  stand_in_ops,
):
  op = stand_in_ops.generic_input
  assert op.__name__ == 'generic_input'
  with pytest.raises(stand_in.UnavailableOpError) as error:
    op('a', batch=3)
  for part in (
    "'generic_input'",
    "version `GLIBC_2.38' not found",
    'glibc 2.38 or later',
    'Debian 13',
    'tf.data',
  ):
    assert part in str(error.value)


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


def test_lingvo_imports_after_the_package_with_the_right_ops():
  replaced, loaded, missing = _run_python(
    'import json, lingvo_gpipe\n'
    'from lingvo.core import ops, py_utils\n'
    'from lingvo_gpipe.lingvo_ops import stand_in\n'
    'print()\n'
    'print(json.dumps([\n'
    '  isinstance(ops.gen_x_ops, stand_in.StandIn),\n'
    '  "x_ops.so" in open("/proc/self/maps").read(),\n'
    '  [n for n in stand_in.IMPLEMENTATIONS if not hasattr(ops, n)],\n'
    ']))'
  )
  assert loaded == (not replaced)
  assert missing == []
