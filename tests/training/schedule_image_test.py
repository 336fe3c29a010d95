# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import tensorflow as tf

from lingvo_gpipe import schedules
from lingvo_gpipe.training import pipeline_report, schedule_image


def _pixels(image):
  with tf.Graph().as_default(), tf.compat.v1.Session() as session:
    return session.run(tf.io.decode_png(image.png, channels=3))


def test_png_is_what_others_read():
  pixels = np.random.RandomState(1).randint(0, 256, [5, 7, 3]).astype(np.uint8)
  image = schedule_image.Image(7, 5, schedule_image.encode_png(pixels))
  np.testing.assert_array_equal(_pixels(image), pixels)


def test_a_task_is_where_it_runs_and_the_bubble_is_white():
  schedule = schedules.make_schedule('1f1b', (0, 1), 2)
  image = schedule_image.draw(schedule)
  pixels = _pixels(image)
  assert pixels.shape == (image.height, image.width, 3)
  # device 0: F0 F1 .  B0 .  B1; device 1: .  F0 B0 F1 B1 .
  columns = (image.width - 1) // 6 * np.arange(6) + 12
  first, second = pixels[12, columns], pixels[24 + 12, columns]
  white = lambda row: [bool(np.all(p == 255)) for p in row]  # noqa: E731
  assert white(first) == [False, False, True, False, True, False]
  assert white(second) == [True, False, False, False, False, True]
  # A task looks the same on each device; kinds and micro-batches differ.
  assert list(first[0]) == list(second[1])
  assert len({tuple(p) for p in first if not np.all(p == 255)}) == 4


@pytest.mark.parametrize('micro_batches', [1, 3000])
def test_any_size_is_drawn(micro_batches):
  schedule = schedules.make_schedule('gpipe', (0, 1), micro_batches)
  image = schedule_image.draw(schedule)
  assert image.width < 7000


def test_a_large_schedule_is_shortened_as_text():
  schedule = schedules.make_schedule('1f1b', tuple(range(40)), 64)
  text = pipeline_report.schedule_text(schedule)
  lines = text.splitlines()
  assert len(lines) < 22
  assert max(map(len, lines)) <= 110
  assert '... 24 more devices ...' in text
  assert 'device 39' in text
