# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of the command that generates text."""

import types

import pytest

from lingvo_gpipe.generating import generate_run, text_generator
from lingvo_gpipe.training import checkpoints, user_error


@pytest.fixture
def flags(monkeypatch, tmp_path):
  values = types.SimpleNamespace(
    prompt='Once ',
    checkpoint='',
    tokens=20,
    samples=2,
    temperature=0.8,
    top_k=0,
    top_p=0.95,
    seed=3,
    window=0,
    model='lm.pydoc.TransformerBytes',
    logdir=str(tmp_path),
  )
  monkeypatch.setattr(generate_run, 'FLAGS', values)
  return values


def test_prints_each_continuation(flags, monkeypatch, capsys):
  class Generator:
    def __init__(self, params, checkpoint, rows, how, window):
      assert (params, checkpoint, rows, window) == ('params', 'ckpt', 2, 0)
      assert (how.temperature, how.top_k, how.top_p) == (0.8, 0, 0.95)

    def continue_text(self, prompt, num_tokens, seed):
      assert (prompt, num_tokens, seed) == ('Once ', 20, 3)
      return [
        text_generator.Continuation('upon a', 20, False),
        text_generator.Continuation('more.', 10, True),
      ]

  monkeypatch.setattr(text_generator, 'TextGenerator', Generator)
  monkeypatch.setattr(generate_run, '_checkpoint', lambda: 'ckpt')
  monkeypatch.setattr(generate_run, '_params', lambda: 'params')
  generate_run.generate()
  out = capsys.readouterr().out
  assert '--- 1\n\nOnce upon a ...\n' in out
  assert '--- 2\n\nOnce more.\n' in out
  assert '30 tokens in ' in out


def test_the_newest_checkpoint_serves_unless_another_is_named(
  flags, monkeypatch, tmp_path
):
  monkeypatch.setattr(
    checkpoints, 'newest_first', lambda path: [f'{path}/c2', f'{path}/c1']
  )
  assert generate_run._checkpoint() == f'{tmp_path}/train/c2'
  (tmp_path / 'c1.index').write_text('')
  for suffix in ('', '.index'):
    flags.checkpoint = f'{tmp_path}/c1{suffix}'
    assert generate_run._checkpoint() == f'{tmp_path}/c1'


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'temperature': -1.0}, '--temperature must be 0 .* got -1.0'),
    ({'top_p': 2.0}, '--top_p must lie in'),
    ({}, '--logdir=.*: there is no checkpoint in .*/train. Train first'),
    ({'logdir': ''}, '--logdir: give the log directory'),
    ({'checkpoint': '/no/ckpt-1'}, 'no file /no/ckpt-1.index'),
  ],
)
def test_a_mistake_is_told(flags, change, message):
  vars(flags).update(change)
  with pytest.raises(user_error.UserError, match=message):
    generate_run.generate()
