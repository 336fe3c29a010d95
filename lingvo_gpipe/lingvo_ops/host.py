# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether this host's C and C++ runtimes can load a given shared library.

Lingvo's wheels carry custom-op libraries built on a newer system than their
platform tag says: `x_ops.so` of 0.14.1 and 0.14.2 needs GLIBC_2.38, which
Debian 12 and Ubuntu 22.04 do not have.
"""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
import os
import pathlib
import sys

from lingvo_gpipe.lingvo_ops import elf_versions


@dataclasses.dataclass(frozen=True)
class Shortfall:
  """A library that this host cannot load, and why.

  Attributes:
    library: the shared library's path.
    glibc: the version of the C library found, e.g. '2.36', or 'none'.
    missing: the version names that the host's libraries lack, sorted, e.g.
      ('CXXABI_1.3.15', 'GLIBC_2.38').
  """

  library: str
  glibc: str
  missing: tuple[str, ...]

  @property
  def glibc_needed(self) -> str | None:
    """The newest C library version asked for in vain, e.g. '2.38'."""
    versions = [
      name.removeprefix('GLIBC_')
      for name in self.missing
      if name.startswith('GLIBC_')
    ]
    return max(versions, key=_version_key) if versions else None


def find_library(package: str, *parts: str) -> pathlib.Path | None:
  """The path of a file of an installed package, without importing it.

  Args:
    package: a top-level package.
    *parts: the file's path in it.

  Returns:
    The path, or None if the package or the file is not there.
  """
  spec = importlib.util.find_spec(package)
  for location in (spec and spec.submodule_search_locations) or ():
    path = pathlib.Path(location, *parts)
    if path.is_file():
      return path
  return None


def find_shortfall(library: str | pathlib.Path) -> Shortfall | None:
  """What keeps `library` from loading here, or None if nothing is known to.

  Only version needs are checked, and nothing but the C and C++ runtimes that
  it names is loaded; TensorFlow's libraries declare no versions.

  Args:
    library: a shared library's path.

  Returns:
    None where the library can load, is no ELF file or cannot be read: then
    loading it says the rest.
  """
  if not sys.platform.startswith('linux'):
    return None
  try:
    needed = elf_versions.ElfVersions(library).needed
  except (OSError, elf_versions.NotElf64Error):
    return None
  missing: set[str] = set()
  for soname, names in needed.items():
    missing.update(set(names) - _defined_versions(soname))
  if not missing:
    return None
  return Shortfall(str(library), glibc_version(), tuple(sorted(missing)))


def glibc_version() -> str:
  """The C library's version, e.g. '2.36'; 'none' where it is not glibc."""
  try:
    name = os.confstr('CS_GNU_LIBC_VERSION')
  except (ValueError, OSError):
    name = None
  return name.split()[-1] if name else 'none'


def _defined_versions(soname: str) -> set[str]:
  """The versions that the library this process gets for `soname` defines."""
  path = _loaded_path(soname)
  if path is None:
    return set()
  try:
    return set(elf_versions.ElfVersions(path).defined)
  except (OSError, elf_versions.NotElf64Error):
    return set()


class _LinkMap(ctypes.Structure):
  """The public head of glibc's `struct link_map` (link.h)."""

  _fields_ = (
    ('l_addr', ctypes.c_void_p),
    ('l_name', ctypes.c_char_p),
  )


def _loaded_path(soname: str) -> str | None:
  """The file behind `soname` in this process; loads it if it is not loaded."""
  rtld_di_linkmap = 2
  try:
    handle = ctypes.CDLL(soname)
    dlinfo = ctypes.CDLL(None).dlinfo
  except (OSError, AttributeError):
    return None
  dlinfo.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
  link_map = ctypes.POINTER(_LinkMap)()
  status = dlinfo(handle._handle, rtld_di_linkmap, ctypes.byref(link_map))
  if status != 0 or not link_map:
    return None
  return os.fsdecode(link_map.contents.l_name) or None


def _version_key(version: str) -> tuple[int, ...]:
  return tuple(int(part) for part in version.split('.') if part.isdigit())
