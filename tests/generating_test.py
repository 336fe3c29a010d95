# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import types

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from lingvo import model_registry
from lingvo.core import cluster_factory, py_utils

import model_params  # noqa: F401  (lets Lingvo find the models)
from lingvo_gpipe import cluster, generating
from lingvo_gpipe.inputs import tokenizers
from lingvo_gpipe.models import generation, transformer
from lingvo_gpipe.training import checkpoints, user_error

_WINDOW = 12
_END = tokenizers.END


class _Passes:
  """Stands in for a model, that of counting; keeps what it was asked."""

  def __init__(self, end_at=()):
    self.calls = []
    self._end_at = end_at

  def __call__(self, prompts, lengths, limit, seed):
    assert prompts.dtype == np.int32 and limit <= _WINDOW
    self.calls.append((prompts.tolist(), limit, seed))
    ids = np.zeros([len(prompts), _WINDOW], np.int32)
    ends = np.full([len(prompts)], limit)
    for i, row in enumerate(prompts):
      row = list(row[: lengths[i]])
      while len(row) < limit and row[-1] != _END:
        token = row[-1] + 1
        row.append(_END if token in self._end_at else token)
      ids[i, : len(row)] = row
      ends[i] = len(row)
    return ids, ends


@pytest.mark.parametrize(
  ('prompt', 'num_tokens', 'passes'),
  [
    (range(5, 7), 7, [(range(5, 7), 9)]),
    (range(10, 40), 3, [(range(34, 40), 9)]),
    # On from the later half of the window.
    (
      range(5, 7),
      20,
      [(range(5, 7), 12), (range(11, 17), 12), (range(17, 23), 10)],
    ),
  ],
)
def test_a_pass_sees_what_a_window_has_room_for(prompt, num_tokens, passes):
  model = _Passes()
  rows = generating.extend([prompt], num_tokens, _WINDOW, 0, model)
  assert rows == [list(range(prompt.start, prompt.stop + num_tokens))]
  assert [call[:2] for call in model.calls] == [
    ([list(seen)], limit) for seen, limit in passes
  ]


def test_a_row_ends_at_its_end_mark():
  # The first row meets 20 soon, the second never, the third at once.
  passes = _Passes(end_at=[20])
  rows = [[11, 12], [50, 51], [18, 19]]
  rows = generating.extend(rows, 30, _WINDOW, 0, passes)
  assert rows == [[*range(11, 20), _END], list(range(50, 82)), [18, 19, _END]]
  # Nothing is asked for when all have ended.
  passes = _Passes(end_at=[8])
  generating.extend([[5, 6]] * 2, 500, _WINDOW, 0, passes)
  assert len(passes.calls) == 1


def test_each_pass_has_a_seed_of_its_own():
  seeds = []
  for seed in (1, 2, 1):
    passes = _Passes()
    generating.extend([[5, 6]], 50, _WINDOW, seed, passes)
    seeds.append([call[2] for call in passes.calls])
  assert seeds[0] == seeds[2] != seeds[1]
  assert len({*seeds[0], *seeds[1]}) == 2 * len(seeds[0])


@pytest.fixture
def params(monkeypatch, tmp_path):
  (tmp_path / 'a.txt').write_text('Some text. ' * 10)
  (tmp_path / 'b.txt').write_text('Held out. ' * 10)
  p = model_registry.GetParams('lm.pydoc.TransformerBytes', 'Test').Copy()
  p.input.Set(
    files=f'{tmp_path}/a.txt',
    held_out_files=f'{tmp_path}/b.txt',
    row_length=_WINDOW,
    batch_size=2,
  )
  net = transformer.TransformerParams().Set(
    num_layers=1, model_dim=8, hidden_dim=16, num_heads=2
  )
  p.task.pipeline.Set(
    sub=transformer.TransformerLayers(net), num_partitions=2, input_shapes=''
  )
  monkeypatch.setattr(cluster_factory, 'Cluster', cluster.PipelineCluster)
  p.cluster = cluster_factory.Current().params.Copy()
  p.cluster.Set(job='decoder', mode='sync', do_eval=True)
  for job in ('worker', 'ps', 'controller', 'decoder'):
    p.cluster.Get(job).Set(name='/job:localhost', replicas=1)
  cluster.use_cpu_devices(p.cluster, 2)
  return p


def _save(params, path):
  """Saves random weights; returns what greedy whole passes give."""
  with (
    tf.Graph().as_default(),
    cluster_factory.Cluster(params.cluster),
    tf.Session(config=tf.ConfigProto(device_count={'CPU': 2})) as session,
  ):
    tf.set_random_seed(4)
    py_utils.GetOrCreateGlobalStepVar()
    task = params.Instantiate().GetTask()
    session.run(tf.global_variables_initializer())
    random = np.random.RandomState(2)
    for variable in sorted(tf.trainable_variables(), key=lambda v: v.name):
      scale = 1.0 if variable.shape.rank > 1 else 0.1
      variable.load(scale * random.randn(*variable.shape.as_list()), session)
    tf.train.Saver().save(session, path)
    ids = tf.placeholder(tf.int32, [1, None])
    side_inputs = {
      'segment_ids': tf.ones_like(ids),
      'segment_pos': tf.range(tf.shape(ids)[1])[tf.newaxis],
    }
    logits = task.pipeline.FProp(
      task.theta.pipeline, ids, side_inputs=side_inputs
    )

    def run_pass(prompts, lengths, limit, unused_seed):
      [row] = prompts.tolist()
      while len(row) < limit and row[-1] != _END:
        row.append(int(session.run(logits, {ids: [row]})[0, -1].argmax()))
      return np.array([row]), np.array([len(row)])

    prompt = [tokenizers.BEGIN, *(3 + ord(c) for c in 'So me')]
    rows = generating.extend([prompt], 14, _WINDOW, 0, run_pass)
    return rows[0][len(prompt) :]


def test_a_checkpoint_generates_what_its_model_does(params, tmp_path):
  path = str(tmp_path / 'ckpt-00000003')
  want = _save(params.Copy(), path)
  assert len(set(want)) > 3
  generator = generating.TextGenerator(
    params, path, 2, generation.Sampling(temperature=0.0)
  )
  assert generator.continue_text('So me', 14, seed=1) == [want] * 2


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
    model='lm.pydoc.TransformerBytes',
    logdir=str(tmp_path),
  )
  monkeypatch.setattr(generating, 'FLAGS', values)
  return values


def test_prints_each_continuation(flags, monkeypatch, capsys):
  class Generator:
    tokenizer = tokenizers.ByteTokenizer()

    def __init__(self, params, checkpoint, rows, how):
      assert (params, checkpoint, rows) == ('params', 'ckpt', 2)
      assert (how.temperature, how.top_k, how.top_p) == (0.8, 0, 0.95)

    def continue_text(self, prompt, num_tokens, seed):
      assert (prompt, num_tokens, seed) == ('Once ', 20, 3)
      encode = self.tokenizer.encode
      return [encode('upon a time'), [*encode('more.'), _END]]

  monkeypatch.setattr(generating, 'TextGenerator', Generator)
  monkeypatch.setattr(generating, '_checkpoint', lambda: 'ckpt')
  monkeypatch.setattr(generating, '_params', lambda: 'params')
  generating.generate()
  out = capsys.readouterr().out
  assert '--- 1\n\nOnce upon a time ...\n' in out
  assert '--- 2\n\nOnce more.\n' in out
  assert '17 tokens in ' in out


def test_the_newest_checkpoint_serves_unless_another_is_named(
  flags, monkeypatch, tmp_path
):
  monkeypatch.setattr(
    checkpoints, 'newest_first', lambda path: [f'{path}/c2', f'{path}/c1']
  )
  assert generating._checkpoint() == f'{tmp_path}/train/c2'
  (tmp_path / 'c1.index').write_text('')
  for suffix in ('', '.index'):
    flags.checkpoint = f'{tmp_path}/c1{suffix}'
    assert generating._checkpoint() == f'{tmp_path}/c1'


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    ({'temperature': -1.0}, 'temperature must be 0 .*temperature=-1.0'),
    ({}, '--logdir=.*: there is no checkpoint in .*/train. Train first'),
    ({'logdir': ''}, '--logdir: give the log directory'),
    ({'checkpoint': '/no/ckpt-1'}, 'no file /no/ckpt-1.index'),
  ],
)
def test_a_mistake_is_told(flags, change, message):
  vars(flags).update(change)
  with pytest.raises(user_error.UserError, match=message):
    generating.generate()
