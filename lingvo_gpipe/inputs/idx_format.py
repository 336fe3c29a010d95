# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The IDX format, in which MNIST and its relatives come.

    offset 0   0, 0
           2   type of a value; 8 is uint8, the only one here
           3   number of dimensions d
           4   d sizes, big-endian uint32
    4 + 4 d    the values, last dimension fastest

The whole file may be compressed by gzip. The format is described on MNIST's
page (LeCun, Cortes and Burges, "The MNIST database of handwritten digits").
"""

import dataclasses
import gzip
import math
import os
import struct
import zlib
from typing import IO, cast

import numpy as np
import numpy.typing as npt

_GZIP_MAGIC = b'\x1f\x8b'
_UINT8 = 8
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class IdxFile:
  """A file that has been found whole.

  Attributes:
    path: Its path.
    compressed: Whether it is compressed by gzip.
    shape: The sizes of its uint8 array.
  """

  path: str
  compressed: bool
  shape: tuple[int, ...]

  @property
  def header_size(self) -> int:
    """Number of bytes before the values, in the file as uncompressed."""
    return 4 + 4 * len(self.shape)


def find(directory: str, name: str) -> str:
  """Returns the path of a file that may be compressed.

  Args:
    directory: Where to look.
    name: The file's name, such as 'train-images-idx3-ubyte'. It may also end
      in '.gz', and have a dot before 'idx'.

  Raises:
    ValueError: if there is no such file.
  """
  directory = os.path.expanduser(directory)
  dotted = name.replace('-idx', '.idx')
  for candidate in (name, f'{name}.gz', dotted, f'{dotted}.gz'):
    path = os.path.join(directory, candidate)
    if os.path.isfile(path):
      return path
  state = 'exists' if os.path.isdir(directory) else 'does not exist'
  raise ValueError(
    f'There is no file {name} or {name}.gz in {directory}, which {state}.'
  )


def check(path: str, num_dimensions: int) -> IdxFile:
  """Reads a file from end to end.

  Args:
    path: The file, compressed or not; its name tells nothing.
    num_dimensions: How many dimensions its array must have.

  Returns:
    What is known of the file.

  Raises:
    ValueError: if the file is damaged or another one.
  """
  compressed = _is_compressed(path)
  with _open(path, compressed) as f:
    try:
      shape = _read_shape(f, path, num_dimensions)
      size = 0
      while chunk := f.read(_CHUNK):
        size += len(chunk)
    except (EOFError, OSError, zlib.error) as e:
      raise ValueError(
        f'{path} is damaged or cut short: its gzip data end in an error ({e}). '
        'Download the file again.'
      ) from e
  _check_size(path, shape, size)
  return IdxFile(path, compressed, shape)


def read(file: IdxFile) -> npt.NDArray[np.uint8]:
  """Returns the array of a file that `check` has seen."""
  with _open(file.path, file.compressed) as f:
    data = f.read()
  values = np.frombuffer(data, np.uint8, offset=file.header_size)
  _check_size(file.path, file.shape, len(values))
  return values.reshape(file.shape)


def _is_compressed(path: str) -> bool:
  with open(path, 'rb') as f:
    return f.read(2) == _GZIP_MAGIC


def _open(path: str, compressed: bool) -> IO[bytes]:
  return cast(IO[bytes], gzip.open(path)) if compressed else open(path, 'rb')


def _read_shape(
  f: IO[bytes], path: str, num_dimensions: int
) -> tuple[int, ...]:
  expected = bytes([0, 0, _UINT8, num_dimensions])
  magic = f.read(4)
  if magic != expected:
    raise ValueError(
      f'{path} is not an IDX file of unsigned bytes with {num_dimensions} '
      f'dimension(s): it begins with {magic.hex(" ") or "nothing"} where '
      f'{expected.hex(" ")} is expected.'
    )
  sizes = f.read(4 * num_dimensions)
  if len(sizes) != 4 * num_dimensions:
    raise ValueError(
      f'{path} is cut short: {4 + len(sizes)} bytes where the header alone '
      f'has {4 + 4 * num_dimensions}.'
    )
  return struct.unpack(f'>{num_dimensions}I', sizes)


def _check_size(path: str, shape: tuple[int, ...], size: int) -> None:
  expected = math.prod(shape)
  if size != expected:
    what = 'is cut short' if size < expected else 'has bytes too many'
    raise ValueError(
      f'{path} {what}: {size} bytes of values where its header tells of '
      f'{" x ".join(map(str, shape))} = {expected}. Download the file again.'
    )
