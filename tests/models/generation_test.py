# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import lingvo.compat as tf
import numpy as np
import pipeline_testing as pt
import pytest
import transformer_testing as tt
from lingvo.core import layers, py_utils
from tensorflow.python.ops import control_flow_util

from lingvo_gpipe.models import generation
from lingvo_gpipe.pipeline import tied_weights

_LENGTH = 9
_GREEDY = generation.Sampling(temperature=0.0)
_IDS = np.random.RandomState(5).randint(tt.VOCAB, size=[5, 4]).astype('int32')
_LENGTHS = np.int32([3, 2, 4, 2, 3])


def _params(num_cells, tied=False):
  net = tt.network(num_layers=1, tied=tied, packed=False)
  return tt.pipeline(num_cells, net)


def _pipeline(num_cells, tied=False):
  py_utils.GetOrCreateGlobalStepVar()
  return _params(num_cells, tied).Instantiate()


def _initialise(session):
  """Large weights: the most probable token then depends on those before."""
  session.run(tf.global_variables_initializer())
  random = np.random.RandomState(13)
  for variable in sorted(tf.trainable_variables(), key=lambda v: v.name):
    scale = 1.0 if variable.shape.rank > 1 else 0.1
    variable.load(scale * random.randn(*variable.shape.as_list()), session)


def _generate(
  num_cells=2, how=_GREEDY, trace=None, length=_LENGTH, tied=False, **kwargs
):
  with (
    pt.cluster(num_cells, do_eval=True),
    tf.Graph().as_default(),
    pt.session(num_cells) as session,
  ):
    layer = _pipeline(num_cells, tied)
    result = generation.generate(
      layer,
      layer.theta,
      tf.constant(_IDS),
      tf.constant(_LENGTHS),
      length,
      how,
      **kwargs,
    )
    assert result.ids.shape == (5, length)
    _initialise(session)
    options = tf.RunOptions(
      trace_level=tf.RunOptions.FULL_TRACE, output_partition_graphs=True
    )
    return session.run(
      result, options=options if trace is not None else None, run_metadata=trace
    )


def _by_whole_passes():
  """The unpipelined model, run on all tokens so far for each token."""
  rows = [list(row[:n]) for row, n in zip(_IDS, _LENGTHS, strict=True)]
  with (
    pt.cluster(1, do_eval=True),
    tf.Graph().as_default(),
    pt.session(1) as session,
  ):
    layer = _pipeline(1)
    given = tf.placeholder(tf.int32, [1, None])
    theta = tied_weights.tie(layer, layer.theta)
    [cell] = layer.cells
    logits = cell.FProp(theta[cell.params.name], given)
    _initialise(session)
    for row in rows:
      while len(row) < _LENGTH:
        scores = session.run(logits, {given: [row]})
        row.append(int(scores[0, -1].argmax()))
  return np.int32(rows)


@pytest.fixture(scope='module')
def greedy():
  return _by_whole_passes()


@pytest.mark.parametrize('num_cells', [1, 3])
def test_greedy_equals_whole_passes_of_the_unpipelined_model(num_cells, greedy):
  # What is most probable is not always the same.
  assert len({tuple(row[4:]) for row in greedy}) == len(greedy)
  result = _generate(num_cells)
  np.testing.assert_array_equal(result.ids, greedy)
  assert (result.lengths == _LENGTH).all()


def test_nothing_is_generated_behind_the_end(greedy):
  # A token that some rows have early, but not only in their prompts.
  end = int(greedy[1, 5])
  result = _generate(2, end_id=end)
  for row, want, given, length in zip(
    result.ids, greedy, _LENGTHS, result.lengths, strict=True
  ):
    places = np.flatnonzero(want[given:] == end)
    expected = given + places[0] + 1 if len(places) else _LENGTH
    assert length == expected
    np.testing.assert_array_equal(row[:length], want[:length])
    assert (row[length:] == 0).all()
  assert result.lengths[1] == 6


def test_a_limit_ends_all_rows(greedy):
  result = _generate(2, limit=6)
  np.testing.assert_array_equal(result.ids[:, :6], greedy[:, :6])
  assert (result.ids[:, 6:] == 0).all()
  assert (result.lengths == 6).all()


def test_random_tokens_do_not_depend_on_cells_and_micro_batches():
  how = generation.Sampling(temperature=3.0, top_k=6, top_p=0.9)
  first, second = (
    _generate(num_cells, how, tied=True, seed=4, num_micro_batches=count).ids
    for num_cells, count in ((1, 1), (2, 3))
  )
  np.testing.assert_array_equal(first, second)
  other = _generate(1, how, tied=True, seed=5).ids
  assert (first != other).any()


def test_prompts_may_fill_the_rows():
  result = _generate(1, length=4)
  assert (result.lengths == 4).all()
  for row, prompt, given in zip(result.ids, _IDS, _LENGTHS, strict=True):
    np.testing.assert_array_equal(row[:given], prompt[:given])


def test_caches_stay_on_the_devices_of_their_cells(monkeypatch):
  # What --disable_tf2 of Lingvo's trainer leads to, among others.
  monkeypatch.setattr(control_flow_util, 'ENABLE_CONTROL_FLOW_V2', False)
  trace = tf.RunMetadata()
  _generate(3, trace=trace)
  ranks, writers = {}, set()
  for device in trace.step_stats.dev_stats:
    for node in device.node_stats:
      for output in node.output:
        rank = len(output.tensor_description.shape.dim)
        ranks[node.node_name, output.slot] = rank
      if 'TensorStridedSliceUpdate' in node.node_name:
        writers.add(device.device[-5:])
  # The layer with attention is in the second of three cells.
  assert writers == {'CPU:1'}
  sent = []
  for graph in trace.partition_graphs:
    for node in graph.node:
      if node.op in ('_Send', '_HostSend'):
        source, _, slot = node.input[0].partition(':')
        if (source, int(slot or 0)) in ranks:
          sent.append(ranks[source, int(slot or 0)])
  # Activations are sent, [batch, new, model_dim], no caches.
  assert max(sent) == 3


def test_refuses_layers_without_steps():
  sub = layers.IdentityLayer.Params().Set(name='identity')
  with pt.cluster(1, do_eval=True), tf.Graph().as_default():
    py_utils.GetOrCreateGlobalStepVar()
    p = _params(1)
    p.cell_tpl[0].sub.append(sub)
    layer = p.Instantiate()
    message = r'net.*identity \(IdentityLayer\) has no'
    with pytest.raises(ValueError, match=message):
      generation.generate(
        layer, layer.theta, tf.constant(_IDS), tf.constant(_LENGTHS), 5, _GREEDY
      )


# Unsorted; together 1.
_PROBABILITIES = np.float32([0.1, 0.4, 0.05, 0.25, 0.2])


def _frequencies(how, count=20000):
  """How often each token is chosen, at evenly spread random numbers."""
  with tf.Graph().as_default(), tf.Session() as session:
    uniform = (np.arange(count, dtype=np.float32) + 0.5) / count
    logits = np.tile(np.log(_PROBABILITIES) + 3.0, [count, 1])
    chosen = generation.choose(tf.constant(logits), tf.constant(uniform), how)
    assert chosen.dtype == tf.int32
    chosen = session.run(chosen)
  return np.bincount(chosen, minlength=len(_PROBABILITIES)) / count


@pytest.mark.parametrize(
  ('how', 'weights'),
  [
    ({}, _PROBABILITIES),
    ({'temperature': 2.0}, _PROBABILITIES**0.5),
    ({'temperature': 0.0}, [0, 1, 0, 0, 0]),
    ({'top_k': 1}, [0, 1, 0, 0, 0]),
    ({'top_k': 3}, [0, 0.4, 0, 0.25, 0.2]),
    ({'top_p': 0.39}, [0, 1, 0, 0, 0]),
    ({'top_p': 0.41}, [0, 0.4, 0, 0.25, 0]),
    ({'top_p': 0.9}, [0.1, 0.4, 0, 0.25, 0.2]),
    # Of the three most probable, 0.47, 0.29 and 0.24, two make up 0.7.
    ({'top_k': 3, 'top_p': 0.7}, [0, 0.4, 0, 0.25, 0]),
  ],
)
def test_tokens_are_as_frequent_as_they_should_be(how, weights):
  got = _frequencies(generation.Sampling(**how))
  np.testing.assert_allclose(got, weights / np.sum(weights), atol=2e-4)


def test_tokens_that_cannot_be_are_never_chosen():
  """Whatever the random number, its largest value included."""
  logits = np.full([2, 50], -np.inf, np.float32)
  logits[:, 20] = 0.0
  uniform = np.float32([0.0, np.nextafter(np.float32(1), np.float32(0))])
  with tf.Graph().as_default(), tf.Session() as session:
    chosen = generation.choose(
      tf.constant(logits), tf.constant(uniform), generation.Sampling()
    )
    assert session.run(chosen).tolist() == [20, 20]


@pytest.mark.parametrize(
  ('name', 'value'),
  [('temperature', np.nan), ('top_k', -1), ('top_p', 0.0), ('top_p', 1.5)],
)
def test_refuses_ways_of_choosing_that_cannot_be(name, value):
  with pytest.raises(ValueError, match=f'{name}.*; got .*{name}={value}'):
    generation.Sampling(**{name: value})
