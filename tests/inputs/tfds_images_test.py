# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import functools
import io
import os

import input_testing
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from lingvo.core import cluster, py_utils
from PIL import Image

from lingvo_gpipe.inputs import tfds_images

tfds = pytest.importorskip('tensorflow_datasets')

_NUM_TRAIN, _NUM_TEST, _NUM_CLASSES = 26, 7, 5
_PLAIN = {'mean': (0.0,) * 3, 'stddev': (1.0,) * 3}


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
  """A directory with the pictures, the training ones in four files."""
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
    p = tfds_images.TfdsImagesInput.TrainParams().Set(**_PLAIN)
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
  """Which pictures these are."""
  images = np.concatenate([b.image for b in batches])
  assert images.std((1, 2, 3)).max() < 0.01
  return np.round(images.mean((1, 2, 3)) / 5).astype(int)


@pytest.fixture(scope='module')
def two_epochs(train):
  """The batches of two epochs and a little of the third."""
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


def test_without_determinism_an_epoch_is_still_whole(train):
  batches = _from_step(train(deterministic=False, batch_size=13), 5, 2)
  assert sorted(_numbers(batches)) == list(range(_NUM_TRAIN))


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


def test_images_are_normalised(test):
  (plain,) = input_testing.batches(test(batch_size=7))
  mean, stddev = (10.0, 20.0, 30.0), (2.0, 4.0, 5.0)
  (batch,) = input_testing.batches(test(batch_size=7, mean=mean, stddev=stddev))
  want = (plain.image - np.float32(mean)) / np.float32(stddev)
  np.testing.assert_allclose(batch.image, want, 1e-6, 1e-6)


def test_grey_images_of_one_channel(test):
  params = test(batch_size=7, num_channels=1, mean=(0.0,), stddev=(1.0,))
  (batch,) = input_testing.batches(params)
  assert batch.image.shape == (7, 8, 8, 1)
  assert sorted(_numbers([batch])) == list(range(_NUM_TRAIN, _NUM_TRAIN + 7))


@pytest.mark.parametrize('training', [True, False])
def test_each_host_reads_its_own_part(train, test, training):
  params = train(batch_size=1) if training else test(batch_size=1)
  params.use_per_host_infeed = True
  seen = []
  for host in range(3):
    with tf.Graph().as_default(), tf.Session() as session:
      if training:
        session.run(py_utils.GetOrCreateGlobalStepVar().initializer)
      generator = params.Instantiate()
      with cluster.InfeedContextScope(
        infeed_host_index=host, num_infeed_hosts=3
      ):
        iterator = tf.data.make_initializable_iterator(generator.GetDataset())
      session.run(iterator.initializer)
      batch = iterator.get_next()
      # A third of 26 is 8 or 9; of 7, 2 or 3, and there are 3 batches.
      batches = [session.run(batch) for _ in range(8 if training else 3)]
      if not training:
        with pytest.raises(tf.errors.OutOfRangeError):
          session.run(batch)
    real = [b for b in batches if b.weight[0]]
    seen += _numbers(real).tolist()
  assert len(set(seen)) == len(seen)
  if training:
    assert len(seen) == 24
  else:
    assert sorted(seen) == list(range(_NUM_TRAIN, _NUM_TRAIN + 7))


def _write_imagenet_metadata(data_dir, num_examples):
  """What a prepared data set says of itself."""
  info = tfds.builder('imagenet2012', data_dir=data_dir).info
  splits = [
    tfds.core.SplitInfo(
      name=name,
      shard_lengths=[num_examples],
      num_bytes=0,
      filename_template=tfds.core.ShardedFileTemplate(
        data_dir=info.data_dir,
        dataset_name='imagenet2012',
        split=name,
        filetype_suffix='tfrecord',
      ),
    )
    for name in ('train', 'validation')
  ]
  info.set_splits(tfds.core.splits.SplitDict(splits))
  os.makedirs(info.data_dir)
  info.write_to_directory(info.data_dir)


def test_imagenet_as_the_package_fakes_it(tmp_path):
  params = tfds_images.TfdsImagesInput.TestParams()
  params.Set(batch_size=4, image_size=32)
  _write_imagenet_metadata(tmp_path, num_examples=6)
  with tfds.testing.mock_data(num_examples=6, data_dir=str(tmp_path)):
    batches = input_testing.batches(params)
  assert [b.image.shape for b in batches] == [(4, 32, 32, 3)] * 2
  assert sum(b.weight.sum() for b in batches) == 6
  for batch in batches:
    # What noise of 0 to 255 becomes, less its mean and scaled.
    assert np.abs(batch.image).max() < 2.7
    assert 0 <= batch.label.min() <= batch.label.max() < 1000


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    ({'data_dir': '/no/such'}, r'Train: .*tiny_pictures.* is not prepared: '
     r'/no/such/tiny_pictures/1\.0\.0 .*`tfds build tiny_pictures --data_dir='
     r'/no/such`.*by the Param data_dir.*by hand first: Paint'),
    ({'dataset': 'tiny_picture'}, "'tiny_picture' is unknown.*tiny_pictures"),
    ({'dataset': 'tiny_texts'}, 'not one of images and classes.*features id'),
    ({'split': 'dev'}, "no split 'dev'.*train, validation"),
    ({'image_size': 0}, 'image_size must be positive, got 0'),
    ({'num_channels': 2}, 'num_channels must be 1 or 3, got 2'),
    ({'mean': (1.0,)}, r'mean must be 3 number.*got \(1\.0,\)'),
    ({'stddev': (1.0, 0.0, 1.0)}, 'stddev must be positive'),
    ({'crop_area': (0.5, 1.1)}, r'crop_area must be a pair.*got \(0\.5, 1\.1'),
    ({'crop_ratio': (2.0, 1.0)}, r'crop_ratio must be a pair'),
    ({'central_fraction': 0.0}, r'central_fraction must be above 0'),
    ({'resize_method': 'best'}, r"resize_method must be one of .* got 'best'"),
  ],
)  # fmt: skip
def test_impossible_params_are_refused(train, params, message):
  with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
    train(**params).Instantiate()
