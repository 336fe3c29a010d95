# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Symbol versions that an ELF shared library needs and defines.

The dynamic loader refuses a library whose version needs (section
`.gnu.version_r`) are not among the version definitions (`.gnu.version_d`) of
the libraries they name, before it binds any symbol. Both tables are a few
hundred bytes, so asking them is far cheaper than loading the library, and
cannot run its initialisers. Layout: System V ABI, Linux Standard Base, "Symbol
Versioning".
"""

from __future__ import annotations

import mmap
import pathlib
import struct

_SHT_GNU_VERDEF = 0x6FFFFFFD
_SHT_GNU_VERNEED = 0x6FFFFFFE
# The soname, which every library lists among its definitions.
_VER_FLG_BASE = 1


class NotElf64Error(ValueError):
  """The file is not a little-endian 64-bit ELF file."""


class ElfVersions:
  """The version tables of one ELF file.

  Attributes:
    needed: {library soname: version names needed from it}, e.g.
      {'libc.so.6': ['GLIBC_2.34', 'GLIBC_2.38']}, in the file's order.
    defined: the version names that this library defines.
  """

  def __init__(self, path: str | pathlib.Path) -> None:
    """Reads the tables of `path`.

    Args:
      path: a shared library.

    Raises:
      NotElf64Error: `path` has another format.
      OSError: `path` cannot be read.
    """
    self.needed: dict[str, list[str]] = {}
    self.defined: list[str] = []
    try:
      with (
        open(path, 'rb') as f,
        mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as image,
      ):
        self._read(image)
    except (struct.error, ValueError, IndexError, OverflowError) as e:
      raise NotElf64Error(f'{path}: cannot read its ELF tables: {e}') from e

  def _read(self, image: mmap.mmap) -> None:
    if image[:6] != b'\x7fELF\x02\x01':
      raise NotElf64Error('not a little-endian 64-bit ELF file')
    (table,) = struct.unpack_from('<Q', image, 0x28)
    entry_size, count = struct.unpack_from('<HH', image, 0x3A)
    # A section: name, type, flags, address, offset, size, link, info, ...
    sections = [
      struct.unpack_from('<IIQQQQII', image, table + i * entry_size)
      for i in range(count)
    ]
    for _, kind, _, _, offset, _, link, entries in sections:
      if kind == _SHT_GNU_VERNEED:
        self._read_needs(image, offset, entries, sections[link][4])
      elif kind == _SHT_GNU_VERDEF:
        self._read_definitions(image, offset, entries, sections[link][4])

  def _read_needs(
    self, image: mmap.mmap, offset: int, entries: int, strings: int
  ) -> None:
    for _ in range(entries):
      _, count, file_name, aux, following = struct.unpack_from(
        '<HHIII', image, offset
      )
      names = self.needed.setdefault(_string(image, strings + file_name), [])
      at = offset + aux
      for _ in range(count):
        name, next_aux = struct.unpack_from('<II', image, at + 8)
        names.append(_string(image, strings + name))
        at += next_aux
      offset += following

  def _read_definitions(
    self, image: mmap.mmap, offset: int, entries: int, strings: int
  ) -> None:
    for _ in range(entries):
      _, flags, _, _, _, aux, following = struct.unpack_from(
        '<HHHHIII', image, offset
      )
      if not flags & _VER_FLG_BASE:
        (name,) = struct.unpack_from('<I', image, offset + aux)
        self.defined.append(_string(image, strings + name))
      offset += following


def _string(image: mmap.mmap, offset: int) -> str:
  return image[offset : image.find(b'\0', offset)].decode('ascii')
