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

from lingvo_gpipe import lingvo_ops

_MESSAGE = "/lib/libc.so.6: version `GLIBC_2.38' not found (required by x)"


@pytest.fixture
def find(monkeypatch):
  """find(message): what is found where loading fails so, or loads for ''."""

  def find(message):
    def load(path):
      assert path == '/ops/x_ops.so'
      if message:
        raise tf.errors.NotFoundError(None, None, message)

    monkeypatch.setattr(tf, 'load_op_library', load)
    return lingvo_ops.Finder().find_spec(lingvo_ops.MODULE_NAME, ['/ops'])

  return find


def test_where_the_host_is_too_old_ops_say_so_when_they_are_used(find):
  module = importlib.util.module_from_spec(find(_MESSAGE))
  assert isinstance(module, lingvo_ops.StandIn)
  op = module.generic_input
  with pytest.raises(
    lingvo_ops.UnavailableOpError,
    match=f"'generic_input'.*{re.escape(_MESSAGE)}.*Debian 13.*tf.data",
  ):
    op('a', batch=3)


@pytest.mark.parametrize(
  'message', ['', 'x_ops.so: undefined symbol: _ZN3', 'x_ops.so: no such file']
)
def test_a_library_that_loads_or_is_broken_is_left_to_lingvo(find, message):
  assert find(message) is None


def test_installing_again_changes_nothing():
  finders = list(sys.meta_path)
  assert any(isinstance(finder, lingvo_ops.Finder) for finder in finders)
  lingvo_ops.install()
  assert sys.meta_path == finders


def test_names_of_the_module_protocol_are_no_ops(stand_in_ops, monkeypatch):
  assert not hasattr(stand_in_ops, '__file__')
  # This asks every module for its file.
  monkeypatch.setitem(sys.modules, 'any_name', stand_in_ops)
  assert inspect.stack()[0].function.startswith('test_names')


def test_lingvo_imports_after_the_package_with_the_right_ops():
  code = (
    'import json, lingvo_gpipe\n'
    'from lingvo.core import ops, py_utils\n'
    'print()\n'
    'print(json.dumps([\n'
    '  isinstance(ops.gen_x_ops, lingvo_gpipe.lingvo_ops.StandIn),\n'
    '  "x_ops.so" in open("/proc/self/maps").read(),\n'
    ']))'
  )
  output = subprocess.check_output([sys.executable, '-c', code], text=True)
  replaced, loaded = json.loads(output.splitlines()[-1])
  assert loaded == (not replaced)
