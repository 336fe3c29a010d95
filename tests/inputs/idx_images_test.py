# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import gzip
import os
import re
import struct

import input_testing
import layer_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from lingvo_gpipe.inputs import idx_images

_RANDOM = np.random.RandomState(3)
_IMAGES = _RANDOM.randint(0, 256, [21, 6, 5]).astype(np.uint8)
_LABELS = _RANDOM.randint(0, 7, [21]).astype(np.uint8)


def _idx(values):
  header = struct.pack(
    f'>4B{values.ndim}I', 0, 0, 8, values.ndim, *values.shape
  )
  return header + values.tobytes()


def _write(path, values, compress=gzip.compress):
  path.write_bytes(compress(_idx(values)))


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
  """Images of a batch as they are in the file."""
  return np.round((images[..., 0] + 1.0) * 127.5).astype(np.uint8)


def test_evaluation_shows_the_images_in_order(files):
  params = files(idx_images.IdxImagesInput.TestParams, batch_size=10)
  (batch,) = input_testing.batches(params)
  assert (batch.image.dtype, batch.label.dtype) == (np.float32, np.int32)
  images = batch.image[..., 0]
  np.testing.assert_allclose(images, _IMAGES[:10] / 127.5 - 1.0, 1e-6, 1e-6)
  np.testing.assert_array_equal(batch.label, _LABELS[:10])
  assert batch.weight.tolist() == [1.0] * 10


@pytest.mark.parametrize('compress', [bytes, gzip.compress])
def test_other_prefixes_and_orientations(files, tmp_path, compress):
  """EMNIST's files."""
  name = 'emnist-letters-test-{}-ubyte'
  _write(tmp_path / name.format('images-idx3'), _IMAGES, compress)
  _write(tmp_path / name.format('labels-idx1'), _LABELS, compress)
  params = files(
    idx_images.IdxImagesInput.TestParams,
    test_prefix='emnist-letters-test',
    transpose=True,
    batch_size=21,
  )
  (batch,) = input_testing.batches(params)
  want = np.transpose(_IMAGES, [0, 2, 1])
  np.testing.assert_array_equal(_as_read(batch.image), want)


def _moved(image, down, right, mirror):
  image = image[:, ::-1] if mirror else image
  padded = np.pad(image, 6)
  return padded[6 - down : 12 - down, 6 - right : 11 - right]


def test_images_are_mirrored_and_moved():
  shift = np.array([[0, 0], [2, 0], [0, -3], [-1, 4], [5, -4]], np.int32)
  mirror = np.array([0, 0, 1, 1, 0], bool)
  with tf.Graph().as_default(), tf.Session() as session:
    got = session.run(
      idx_images.shift_and_mirror(tf.constant(_IMAGES[:5]), shift, mirror)
    )
  for i in range(5):
    np.testing.assert_array_equal(
      got[i], _moved(_IMAGES[i], *shift[i], mirror[i])
    )


def test_training_images_take_all_places_about_as_often(files):
  params = files(max_shift=1, flip=True, batch_size=21)
  batches = input_testing.batches(params, range(40))
  images = _as_read(np.concatenate([b.image for b in batches]))
  kinds = {
    _moved(image, down, right, mirror).tobytes(): (down, right, mirror)
    for image in _IMAGES
    for down in (-1, 0, 1)
    for right in (-1, 0, 1)
    for mirror in (False, True)
  }
  seen = [kinds[x.tobytes()] for x in images]
  counts = np.array([seen.count(x) for x in set(seen)])
  # 18 kinds of 840 / 18 = 46.7 each; standard deviation 6.6.
  assert len(counts) == 18
  assert 20 < counts.min() < counts.max() < 75
  # Evaluation leaves them as they are.
  (batch,) = input_testing.batches(params.Set(training=False))
  np.testing.assert_array_equal(_as_read(batch.image), _IMAGES)


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    ({'directory': '/no/such'}, r'/no/such, which does not exist.*apt install'),
    ({'max_shift': 5}, 'max_shift .* less than 5, got 5'),
    ({'max_shift': 0.5}, r'max_shift .* whole number .* got 0\.5'),
  ],
)
def test_impossible_params_are_refused(files, params, message):
  with layer_testing.refused(message):
    files(**params).Instantiate()


@pytest.mark.parametrize(
  'name', ['images-idx3-ubyte', 'images.idx3-ubyte', 'images.idx3-ubyte.gz']
)
def test_files_are_found_under_their_usual_names(files, tmp_path, name):
  (tmp_path / 'train-images-idx3-ubyte.gz').rename(tmp_path / f'train-{name}')
  with tf.Graph().as_default():
    assert files().Instantiate().num_examples == 21


def test_files_that_do_not_belong_together_are_refused(files, tmp_path):
  _write(tmp_path / 'train-labels-idx1-ubyte.gz', _LABELS[:20])
  with layer_testing.refused(r'21 images, but .*labels.* has 20.*apt'):
    files().Instantiate()


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
    'cut': (contents[:-1], 'cut short: 629 bytes .* 21 x 6 x 5 = 630'),
    'too long': (contents + b'x', 'too many: 631 bytes .* = 630'),
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


@pytest.mark.skipif(
  not os.path.isdir(idx_images.DEFAULT_DIRECTORY),
  reason=f'Fashion-MNIST is not in {idx_images.DEFAULT_DIRECTORY}.',
)
def test_fashion_mnist_is_balanced():
  params = idx_images.IdxImagesInput.TestParams().Set(batch_size=10_000)
  (batch,) = input_testing.batches(params)
  assert batch.image.shape == (10_000, 28, 28, 1)
  assert np.bincount(batch.label).tolist() == [1000] * 10
  # The mean grey level that is known of the test images.
  assert abs((batch.image.mean() + 1) / 2 - 0.2868) < 1e-3
