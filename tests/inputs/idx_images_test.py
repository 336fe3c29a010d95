# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import gzip
import re
import struct

import input_testing
import layer_testing
import numpy as np
import pytest

from lingvo_gpipe.inputs import idx_images

_RANDOM = np.random.RandomState(3)
_IMAGES = _RANDOM.randint(0, 256, [21, 6, 5]).astype(np.uint8)
_LABELS = _RANDOM.randint(0, 7, [21]).astype(np.uint8)


def _idx(values):
  header = struct.pack(
    f'>4B{values.ndim}I', 0, 0, 8, values.ndim, *values.shape
  )
  return header + values.tobytes()


def _write(path, values):
  path.write_bytes(gzip.compress(_idx(values)))


@pytest.fixture
def files(tmp_path):
  """Params of an input of small files: 21 images, or 10 for the test."""
  for prefix, n in (('train', 21), ('t10k', 10)):
    _write(tmp_path / f'{prefix}-images-idx3-ubyte.gz', _IMAGES[:n])
    _write(tmp_path / f'{prefix}-labels-idx1-ubyte.gz', _LABELS[:n])

  def params(make=idx_images.IdxImagesInput.TrainParams, **kwargs):
    p = make().Set(directory=str(tmp_path), batch_size=4)
    return p.Set(**kwargs)

  return params


def _as_read(images):
  return np.round((images[..., 0] + 1.0) * 127.5).astype(np.uint8)


def test_evaluation_shows_the_images_in_order(files):
  params = files(idx_images.IdxImagesInput.TestParams, batch_size=10)
  (batch,) = input_testing.batches(params)
  assert (batch.image.dtype, batch.label.dtype) == (np.float32, np.int32)
  images = batch.image[..., 0]
  np.testing.assert_allclose(images, _IMAGES[:10] / 127.5 - 1.0, 1e-6, 1e-6)
  np.testing.assert_array_equal(batch.label, _LABELS[:10])
  assert batch.weight.tolist() == [1.0] * 10


def test_half_of_the_training_images_are_mirrored(files):
  params = files(flip=True, batch_size=21)
  batches = input_testing.batches(params, range(40))
  images = _as_read(np.concatenate([b.image for b in batches]))
  mirrored = {x[:, ::-1].tobytes() for x in _IMAGES}
  plain = {x.tobytes() for x in _IMAGES}
  seen = [x.tobytes() for x in images]
  assert set(seen) == mirrored | plain
  # 420 of 840; the standard deviation is 14.5.
  assert abs(sum(x in mirrored for x in seen) - 420) < 70
  # Evaluation leaves them as they are.
  (batch,) = input_testing.batches(params.Set(training=False))
  np.testing.assert_array_equal(_as_read(batch.image), _IMAGES)


def test_a_missing_directory_is_refused(files):
  message = r'/no/such, which does not exist.*apt install'
  with layer_testing.refused(message):
    files(directory='/no/such').Instantiate()


def test_files_may_be_plain(files, tmp_path):
  for kind in ('images-idx3', 'labels-idx1'):
    path = tmp_path / f'train-{kind}-ubyte.gz'
    path.with_suffix('').write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
  (batch,) = input_testing.batches(files(batch_size=21, training=False))
  np.testing.assert_array_equal(_as_read(batch.image), _IMAGES)


def test_files_that_do_not_belong_together_are_refused(files, tmp_path):
  _write(tmp_path / 'train-labels-idx1-ubyte.gz', _LABELS[:20])
  with layer_testing.refused(r'21 images, but .*labels.* has 20.*apt'):
    files().Instantiate()


def _damage(contents):
  return {
    'other type': (b'\0\0\x0d\x03' + contents[4:], '00 00 0d 03 where 00 00'),
    'other dimensions': (b'\0\0\x08\x01' + contents[4:], 'with 3 dimension'),
    'text': (b'<html>', 'begins with 3c 68 74 6d where 00 00 08 03'),
    'empty': (b'', 'begins with nothing'),
    'header cut': (contents[:11], r'short: 11 bytes .* 16 \+ 21 x 0 x 0'),
    'cut': (contents[:-1], r'short: 645 .* 16 \+ 21 x 6 x 5 = 646'),
    'too long': (contents + b'x', 'too many: 647 bytes .* = 646'),
  }


@pytest.mark.parametrize('damage', list(_damage(b'')))
@pytest.mark.parametrize('compress', [bytes, gzip.compress])
def test_a_damaged_file_is_named_with_what_it_has(tmp_path, compress, damage):
  contents, message = _damage(_idx(_IMAGES))[damage]
  path = tmp_path / 'file'
  path.write_bytes(compress(contents))
  with pytest.raises(ValueError, match=f'{re.escape(str(path))} .*{message}'):
    idx_images.read_idx(str(path), 3)


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
    idx_images.read_idx(str(path), 3)
