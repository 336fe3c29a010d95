# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import ctypes
import re

import pytest

from lingvo_gpipe.lingvo_ops import elf_versions, host


def _read(name):
  ctypes.CDLL(name)
  with open('/proc/self/maps', encoding='utf-8') as maps:
    path = re.search(rf'\S*/{re.escape(name)}', maps.read())[0]
  return elf_versions.ElfVersions(path)


def test_the_c_library_defines_its_own_version_and_all_before():
  defined = _read('libc.so.6').defined
  assert f'GLIBC_{host.glibc_version()}' in defined
  assert {'GLIBC_2.14', 'GLIBC_2.34'} <= set(defined)


def test_a_librarys_own_name_is_no_version():
  assert 'libc.so.6' not in _read('libc.so.6').defined


def test_the_math_library_needs_versions_of_the_c_library_that_are_there():
  needed = _read('libm.so.6').needed['libc.so.6']
  assert needed
  assert set(needed) <= set(_read('libc.so.6').defined)


@pytest.mark.parametrize(
  'content',
  [
    b'',
    b'#!/bin/sh\n',
    b'\x7fELF\x01\x01' + bytes(100),
    b'\x7fELF\x02\x01' + b'\xff' * 100,
    b'\x7fELF\x02\x01',
  ],
)
def test_other_formats_and_broken_files_raise(tmp_path, content):
  path = tmp_path / 'library.so'
  path.write_bytes(content)
  with pytest.raises(elf_versions.NotElf64Error, match=re.escape(str(path))):
    elf_versions.ElfVersions(path)


def test_a_missing_file_raises(tmp_path):
  with pytest.raises(FileNotFoundError):
    elf_versions.ElfVersions(tmp_path / 'none.so')
