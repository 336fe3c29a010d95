# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import fcntl
import io
import os
import pty
import struct
import sys
import termios

import numpy as np
import pytest

from lingvo_gpipe.training import progress


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def _run(stream, steps, first_step=0, metrics=None):
  now = 0.0
  shown = progress.Progress(
    stream, lambda: steps, line_seconds=3.0, clock=lambda: now
  )
  metrics = metrics or {
    'loss': (np.float32(0.5), np.float32(64)),
    'accuracy': (np.float32(0.875), np.float32(64)),
    'num_samples_in_batch': (np.int64(64), np.float32(1)),
  }
  for step in range(first_step, steps):
    shown.before_step(step)
    now += 100 if step == first_step else 2
    shown.after_step(step + 1, metrics)
  shown.close()
  return stream.getvalue()


def test_lines_show_metrics_rate_and_time_left():
  assert _run(io.StringIO(), 5).splitlines() == [
    'step 1/5  loss 0.5  accuracy 0.875',
    'step 3/5  loss 0.5  accuracy 0.875  32 examples/s  ETA 00:04',
    'step 5/5  loss 0.5  accuracy 0.875  32 examples/s  ETA 00:00',
  ]


@pytest.mark.parametrize('first_step', [0, 6])
def test_a_terminal_gets_one_bar_from_where_training_starts(first_step):
  text = _run(_Terminal(), 8, first_step)
  assert text.count('\n') == 1
  first, *_, last = text.strip('\r\n').split('\r')
  assert f'step {first_step}/8' in first
  for shown in ('step 8/8', 'accuracy 0.875', '32 examples/s'):
    assert shown in last


def test_a_terminal_that_does_not_tell_its_size_gets_a_bar_too(monkeypatch):
  controller, terminal = pty.openpty()
  fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 0, 0, 0, 0))
  with os.fdopen(terminal, 'w') as stream:
    # tqdm asks only the standard streams for their size.
    monkeypatch.setattr(sys, 'stdout', stream)
    shown = progress.Progress(stream, lambda: 1)
    shown.before_step(0)
    shown.after_step(1, {'loss': (1.5, 1.0)})
    shown.close()
    text = ''
    while '\n' not in text:  # The kernel hands it over piece by piece.
      text += os.read(controller, 10_000).decode()
  os.close(controller)
  assert 'step 1/1' in text
  assert 'loss 1.5' in text


def test_the_models_own_metrics_are_shown_the_loss_first_and_tokens_counted():
  metrics = {
    'log_pplx': (2.5, 1.0),
    'num_tokens_in_batch': (500, 1.0),
    'num_samples_in_batch': (8, 1.0),
    'loss': (0.5, 1.0),
    'grad_norm/all/loss': (3.0, 1.0),
  }
  assert _run(io.StringIO(), 3, metrics=metrics).splitlines() == [
    'step 1/3  loss 0.5  log_pplx 2.5',
    'step 3/3  loss 0.5  log_pplx 2.5  250 tokens/s  ETA 00:00',
  ]
