# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import io

import lingvo.compat as tf
import pytest

from lingvo_gpipe.training import notices, summary_writer


class _Writer:
  """A FileWriter on a disk that may be full."""

  full = False
  made = 0

  def __init__(self):
    type(self).made += 1
    self.broken = False
    self.written = []

  def add_summary(self, summary, step):
    if self.full:
      self.broken = True
      raise RuntimeError('/logs/events; No space left on device')
    if not self.broken:  # As TensorFlow's: silent once it has failed.
      self.written.append((summary, step))

  def flush(self):
    if self.full:
      raise tf.errors.ResourceExhaustedError(None, None, 'No space left')

  def get_logdir(self):
    return '/logs'


@pytest.fixture
def writer(monkeypatch):
  monkeypatch.setattr(_Writer, 'made', 0)
  now = [0.0]
  result = summary_writer.SummaryWriter(_Writer, clock=lambda: now[0])
  return result, now


def test_a_full_disk_is_a_warning_and_writing_goes_on_when_there_is_room(
  writer, monkeypatch
):
  writer, now = writer
  shown = io.StringIO()
  with notices.shown_on(shown):
    writer.add_summary('a', 1)
    with monkeypatch.context() as patch:
      patch.setattr(_Writer, 'full', True)
      writer.flush()
      writer.add_summary('b', 2)
      writer.flush()
    assert shown.getvalue() == (
      'Warning: summaries could not be written (No space left). Training '
      'continues; the next try is in 60 s.\n'
    )
    writer.add_summary('c', 3)
    assert _Writer.made == 1
    now[0] = 61.0
    writer.add_summary('d', 4)
  assert _Writer.made == 2
  assert writer._writer.written == [('d', 4)]
  assert writer.get_logdir() == '/logs'


def test_a_mistake_is_no_full_disk(writer):
  with pytest.raises(TypeError):
    writer[0].add_summary()
