# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import functools
import io

import input_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import py_utils
from PIL import Image

from lingvo_gpipe.inputs import tfds_images

tfds = pytest.importorskip('tensorflow_datasets')

_NUM_TRAIN, _NUM_TEST, _NUM_CLASSES = 26, 7, 5


class TinyPictures(tfds.core.GeneratorBasedBuilder):
  """Pictures of one grey, which tells their number; JPEG and PNG files."""

  # TFDS looks for files beside those of a package's modules.
  __module__ = 'tiny_pictures'
  VERSION = tfds.core.Version('1.0.0')
  MANUAL_DOWNLOAD_INSTRUCTIONS = 'Paint the pictures.'

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'picture': tfds.features.Image(shape=(None, None, 3)),
          'kind': tfds.features.ClassLabel(num_classes=_NUM_CLASSES),
        }
      ),
      supervised_keys=('picture', 'kind'),
    )

  def _split_generators(self, dl_manager):
    return {
      'train': self._generate_examples(0, _NUM_TRAIN),
      'validation': self._generate_examples(_NUM_TRAIN, _NUM_TEST),
    }

  def _generate_examples(self, first, count):
    for i in range(first, first + count):
      file = io.BytesIO()
      grey = np.full([20 + i, 50 - i, 3], 5 * i, np.uint8)
      Image.fromarray(grey).save(file, 'JPEG' if i % 2 else 'PNG')
      file.seek(0)
      yield i, {'picture': file, 'kind': i % _NUM_CLASSES}


class TinyTexts(tfds.testing.DummyDataset):
  """A data set without images."""


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  path = str(tmp_path_factory.mktemp('tfds'))
  builder = tfds.builder('tiny_pictures', data_dir=path)
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(
      num_shards=4, manual_dir=path, try_download_gcs=False
    )
  )
  assert builder.info.splits['train'].num_shards == 4
  return path


@pytest.fixture(scope='module')
def train(data_dir):
  def params(**kwargs):
    p = tfds_images.TfdsImagesInput.TrainParams()
    p.Set(dataset='tiny_pictures', data_dir=data_dir, image_size=8)
    return p.Set(batch_size=4, shuffle_buffer_size=8).Set(**kwargs)

  return params


@pytest.fixture
def test(train):
  return functools.partial(
    train, split='validation', training=False, resettable=True
  )


def _from_step(params, step, num_batches):
  """Batches of a run that goes on at a step, as Lingvo's trainer does it."""
  with tf.Graph().as_default(), tf.Session() as session:
    variable = py_utils.GetOrCreateGlobalStepVar()
    generator = params.Instantiate()
    batch = generator.GetPreprocessedInputBatch()
    session.run(variable.initializer)
    # The checkpoint is read after the input has been initialised.
    generator.Initialize(session)
    variable.load(step, session)
    result = []
    for _ in range(num_batches):
      result.append(session.run(batch))
      session.run(variable.assign_add(1))
    return result


def _numbers(batches):
  images = np.concatenate([b.image for b in batches])
  # Not normalised.
  images = images * tfds_images.STDDEV + tfds_images.MEAN
  assert images.std((1, 2, 3)).max() < 0.01
  return np.round(images.mean((1, 2, 3)) / 5).astype(int)


@pytest.fixture(scope='module')
def two_epochs(train):
  return _from_step(train(), 0, 15)


def test_an_epoch_shows_every_picture_once_with_its_label(two_epochs):
  batches = two_epochs[:13]
  for batch in batches:
    assert batch.image.shape == (4, 8, 8, 3)
    assert (batch.image.dtype, batch.label.dtype) == (np.float32, np.int32)
    assert batch.weight.tolist() == [1.0] * 4
  numbers = _numbers(batches)
  labels = np.concatenate([b.label for b in batches])
  np.testing.assert_array_equal(labels, numbers % _NUM_CLASSES)
  epochs = numbers[:_NUM_TRAIN], numbers[_NUM_TRAIN:]
  for epoch in epochs:
    assert sorted(epoch) == list(range(_NUM_TRAIN))
    assert not (epoch == np.arange(_NUM_TRAIN)).all()
  assert (epochs[0] == epochs[1]).mean() < 0.4


@pytest.mark.parametrize('step', [2, 12])
def test_a_resumed_run_goes_on_where_it_was(train, two_epochs, step):
  resumed = _from_step(train(), step, 3)
  assert all(map(input_testing.same, resumed, two_epochs[step : step + 3]))


def test_another_seed_is_another_order(train, two_epochs):
  first = _numbers(two_epochs[:6])
  other = _numbers(_from_step(train(random_seed=1), 0, 6))
  assert (first == other).mean() < 0.4


def test_evaluation_shows_each_picture_once_in_order(test):
  batches = input_testing.batches(test())
  assert [b.image.shape for b in batches] == [(4, 8, 8, 3)] * 2
  weight = np.concatenate([b.weight for b in batches])
  assert weight.tolist() == [1.0] * 7 + [0.0]
  numbers = _numbers(batches)[:7]
  # TFDS shuffles examples once, when it prepares them.
  assert sorted(numbers) == list(range(_NUM_TRAIN, _NUM_TRAIN + 7))
  labels = np.concatenate([b.label for b in batches])[:7]
  np.testing.assert_array_equal(labels, numbers % _NUM_CLASSES)
  again = input_testing.batches(test())
  assert all(map(input_testing.same, batches, again))


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    ({'data_dir': '/no/such'}, r'Train: .*tiny_pictures.* is not prepared: '
     r'/no/such/tiny_pictures/1\.0\.0 .*`tfds build tiny_pictures --data_dir='
     r'/no/such`.*by the Param data_dir.*by hand first: Paint'),
    ({'dataset': 'imagenet2012'}, 'imagenet2012.*not prepared.*by hand first'),
    ({'dataset': 'tiny_picture'}, "'tiny_picture' is unknown.*prepared in"),
    ({'dataset': 'tiny_texts'}, 'not one of images and classes.*features id'),
    ({'split': 'dev'}, "split 'dev'.*'train', 'validation'"),
    ({'image_size': 0}, 'image_size must be positive, got 0'),
    ({'crop_area': (0.5, 1.1)}, r'crop_area must be a pair.*got \(0\.5, 1\.1'),
    ({'central_fraction': 0.0}, r'central_fraction must be above 0'),
  ],
)  # fmt: skip
def test_impossible_params_are_refused(train, params, message):
  with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
    train(**params).Instantiate()


_HEIGHT, _WIDTH = 120, 200


def _picture():
  """Red grows to the right and green downwards, one a pixel."""
  picture = np.zeros([_HEIGHT, _WIDTH, 3], np.uint8)
  picture[..., 0] = np.arange(_WIDTH)
  picture[..., 1] = np.arange(_HEIGHT)[:, np.newaxis]
  picture[..., 2] = 77
  return picture


def _encode(kind, picture):
  if kind == 'jpeg':
    return tf.io.encode_jpeg(
      picture, quality=100, chroma_downsampling=False, optimize_size=True
    )
  return tf.io.encode_png(picture)


def _random_parts(kind, n, seed=0):
  def crop(contents, number):
    return tfds_images.random_crop(
      contents, 32, (0.08, 1.0), tf.stack([seed, number])
    )

  with tf.Graph().as_default(), tf.Session() as session:
    contents = _encode(kind, _picture())
    numbers = tf.range(n, dtype=tf.int64)
    seed = tf.constant(seed, tf.int64)
    return session.run(
      tf.map_fn(lambda i: crop(contents, i), numbers, dtype=tf.float32)
    )


def _windows(images):
  """Width, height and mirroring of the parts, from their colours."""
  # From the middle of the first to that of the last of `size` pixels.
  size = images.shape[1]
  red = images[:, :, -2, 0].mean(1) - images[:, :, 1, 0].mean(1)
  green = images[:, -2, :, 1].mean(1) - images[:, 1, :, 1].mean(1)
  scale = size / (size - 3)
  return np.abs(red) * scale, green * scale, red < 0


def test_random_parts_have_the_areas_and_ratios_asked_for():
  images = _random_parts('png', 200)
  assert images.shape == (200, 32, 32, 3)
  width, height, mirrored = _windows(images)
  share = width * height / (_HEIGHT * _WIDTH)
  assert 0.07 < share.min() < 0.13
  # With a ratio of 4/3 at most, the full height is at most 0.8 of the picture.
  assert 0.6 < share.max() < 0.82
  ratio = width / height
  assert 0.7 < ratio.min() < 0.8
  assert 1.25 < ratio.max() < 1.4
  assert 70 < mirrored.sum() < 130
  # They are all over the picture.
  middle = images.mean((1, 2))
  assert middle[:, 0].min() < 50
  assert middle[:, 0].max() > 150
  np.testing.assert_allclose(middle[:, 2], 77, atol=0.1)


def test_a_part_depends_on_the_seed_alone():
  first, again = _random_parts('png', 3), _random_parts('png', 2)
  np.testing.assert_array_equal(first[:2], again)
  assert not np.array_equal(first[0], first[1])
  assert not np.array_equal(first[0], _random_parts('png', 1, seed=1)[0])


def _central(kind, fraction, size=60, picture=None):
  with tf.Graph().as_default(), tf.Session() as session:
    contents = _encode(kind, _picture() if picture is None else picture)
    return session.run(tfds_images.central_crop(contents, size, fraction))


@pytest.mark.parametrize('kind', ['png', 'jpeg'])
def test_the_central_square_is_that_share_of_the_shorter_side(kind):
  # A square of 60 pixels is not resized.
  image = _central(kind, 0.5)
  want = _picture()[30:90, 70:130]
  np.testing.assert_allclose(image, want, atol=0 if kind == 'png' else 5)


def test_the_square_is_resized():
  image = _central('png', 1.0, size=30)
  # Four pixels in each direction, and their mean.
  want = _picture()[:, 40:160].reshape([30, 4, 30, 4, 3]).mean((1, 3))
  # But for the border, where there is less to interpolate from.
  inner = np.s_[1:-1, 1:-1]
  np.testing.assert_allclose(image[inner], want[inner], atol=0.1)


def test_colours_stay_in_range():
  picture = np.zeros([16, 16, 3], np.uint8)
  picture[4:12] = 255
  image = _central('png', 1.0, 61, picture=picture)
  assert image.min() == 0
  assert image.max() == 255
