# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import platform
import re
import subprocess
import sys

import pytest

from lingvo_gpipe.lingvo_ops import host


@pytest.fixture
def library():
  path = host.find_library('lingvo', 'core', 'ops', 'x_ops.so')
  if path is None:
    pytest.skip('this Lingvo has no custom-op library')
  return path


@pytest.fixture
def patched_library(library, tmp_path):
  """patched_library(glibc): a copy whose newest needs are those given.

  It needs that version of glibc, and of the C++ library what any host has.
  """

  def patch(glibc):
    image = library.read_bytes()
    for pattern, version in (
      (rb'GLIBC_2\.3[5-9]', glibc),
      (rb'GLIBCXX_3\.4\.3\d', 'GLIBCXX_3.4.21'),
      (rb'CXXABI_1\.3\.1\d', 'CXXABI_1.3.9'),
    ):
      old = next(iter(re.findall(pattern + rb'\0', image)), None)
      if old:
        new = version.encode().ljust(len(old), b'\0')
        assert len(new) == len(old)
        image = image.replace(old, new)
    path = tmp_path / 'x_ops.so'
    path.write_bytes(image)
    return path

  return patch


def test_a_version_that_no_host_has_is_a_shortfall(patched_library):
  path = patched_library('GLIBC_2.99')
  shortfall = host.find_shortfall(path)
  assert shortfall.missing == ('GLIBC_2.99',)
  assert shortfall.library == str(path)
  assert shortfall.glibc == platform.libc_ver()[1]
  assert shortfall.glibc_needed == '2.99'


def test_without_versions_that_are_missing_there_is_no_shortfall(
  patched_library,
):
  assert host.find_shortfall(patched_library('GLIBC_2.34')) is None


def test_the_verdict_is_the_dynamic_loaders(library):
  code = 'import sys, tensorflow as tf; tf.load_op_library(sys.argv[1])'
  loading = subprocess.run(
    [sys.executable, '-c', code, str(library)],
    capture_output=True,
    text=True,
    check=False,
  )
  shortfall = host.find_shortfall(library)
  assert (loading.returncode == 0) == (shortfall is None), loading.stderr
  if shortfall:
    (said,) = re.findall(r"version `(\S+)' not found", loading.stderr)[:1]
    assert said in shortfall.missing


@pytest.mark.parametrize('content', [b'', b'no library'])
def test_of_what_is_no_library_no_shortfall_is_known(tmp_path, content):
  path = tmp_path / 'x_ops.so'
  path.write_bytes(content)
  assert host.find_shortfall(path) is None
  assert host.find_shortfall(tmp_path / 'none.so') is None


def test_elsewhere_than_on_linux_no_shortfall_is_known(
  patched_library, monkeypatch
):
  monkeypatch.setattr(sys, 'platform', 'darwin')
  assert host.find_shortfall(patched_library('GLIBC_2.99')) is None


def test_glibc_needed_is_the_newest_that_is_missing():
  missing = ('CXXABI_1.3.15', 'GLIBC_2.38', 'GLIBC_2.4')
  assert host.Shortfall('x', '2.3', missing).glibc_needed == '2.38'
  assert host.Shortfall('x', '2.40', missing[:1]).glibc_needed is None


def test_files_of_packages_are_found_without_importing_them():
  path = host.find_library('sklearn', '__init__.py')
  assert path.is_file()
  assert host.find_library('sklearn', 'none.so') is None
  assert host.find_library('no_such_package', 'x.so') is None
