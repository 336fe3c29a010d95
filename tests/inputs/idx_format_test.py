# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import gzip
import re
import struct

import numpy as np
import pytest

from lingvo_gpipe.inputs import idx_format


def _idx(values):
  header = struct.pack(
    f'>4B{values.ndim}I', 0, 0, 8, values.ndim, *values.shape
  )
  return header + values.tobytes()


_IMAGES = np.random.RandomState(1).randint(0, 256, [5, 3, 4]).astype(np.uint8)


@pytest.mark.parametrize('compress', [bytes, gzip.compress])
def test_a_file_is_read_compressed_or_not(tmp_path, compress):
  path = tmp_path / 'file'
  path.write_bytes(compress(_idx(_IMAGES)))
  file = idx_format.check(str(path), 3)
  assert file.shape == (5, 3, 4)
  assert file.compressed == (compress is gzip.compress)
  assert file.header_size == 16
  np.testing.assert_array_equal(idx_format.read(file), _IMAGES)


@pytest.mark.parametrize(
  'name',
  [
    'train-images-idx3-ubyte',
    'train-images-idx3-ubyte.gz',
    'train-images.idx3-ubyte',
    'train-images.idx3-ubyte.gz',
  ],
)
def test_a_file_is_found_under_its_usual_names(tmp_path, name):
  (tmp_path / name).touch()
  found = idx_format.find(str(tmp_path), 'train-images-idx3-ubyte')
  assert found == str(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
  for directory, state in ((tmp_path, 'exists'), ('/no/x', 'does not exist')):
    with pytest.raises(ValueError, match=f'no file name or .*{state}'):
      idx_format.find(str(directory), 'name')


def _damage(contents):
  return {
    'other type': (
      b'\0\0\x0d\x03' + contents[4:],
      '00 00 0d 03 where 00 00 08',
    ),
    'other dimensions': (b'\0\0\x08\x01' + contents[4:], 'with 3 dimension'),
    'text': (b'<html>', 'begins with 3c 68 74 6d where 00 00 08 03'),
    'empty': (b'', 'begins with nothing'),
    'header cut': (contents[:11], '11 bytes where the header alone has 16'),
    'cut': (contents[:-1], 'cut short: 59 bytes .* 5 x 3 x 4 = 60'),
    'too long': (contents + b'x', 'too many: 61 bytes .* = 60'),
  }


@pytest.mark.parametrize('damage', list(_damage(b'')))
@pytest.mark.parametrize('compress', [bytes, gzip.compress])
def test_a_damaged_file_is_named_with_what_was_found(
  tmp_path, compress, damage
):
  contents, message = _damage(_idx(_IMAGES))[damage]
  path = tmp_path / 'file'
  path.write_bytes(compress(contents))
  with pytest.raises(ValueError, match=f'{re.escape(str(path))} .*{message}'):
    idx_format.check(str(path), 3)


@pytest.mark.parametrize('change', ['cut', 'header', 'checksum', 'middle'])
def test_damaged_gzip_is_named(tmp_path, change):
  data = bytearray(gzip.compress(_idx(_IMAGES)))
  if change == 'cut':
    data = data[:-20]
  else:
    data[{'header': 2, 'checksum': -6, 'middle': 30}[change]] ^= 0x55
  path = tmp_path / 'file'
  path.write_bytes(data)
  with pytest.raises(ValueError, match=f'{path} .*(gzip data|cut short)'):
    idx_format.check(str(path), 3)
