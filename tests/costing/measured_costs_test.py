# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import json
import statistics
import time
from unittest import mock

import costed_layers
import lingvo.compat as tf
import numpy as np
import pytest
from costed_layers import WIDTH, Tied, linear, spec
from lingvo.core import layers

from lingvo_gpipe import cpu_devices
from lingvo_gpipe.costing import measured_costs, weights
from lingvo_gpipe.named_layers import PutLayer, TakeLayer


@pytest.fixture
def short(monkeypatch):
  monkeypatch.setattr(measured_costs, '_LEAST_SECONDS', 0.0)
  monkeypatch.setattr(measured_costs, '_WARM_UP_RUNS', 1)


@pytest.mark.parametrize(('gpus', 'threads'), [([], 1), (['GPU:0'], 0)])
def test_ops_stay_on_one_thread_on_cpus(monkeypatch, gpus, threads):
  monkeypatch.setattr(tf.config, 'list_physical_devices', lambda kind: gpus)
  assert weights.session_config().intra_op_parallelism_threads == threads
  keep = mock.Mock()
  monkeypatch.setattr(cpu_devices, 'keep_ops_on_one_thread', keep)
  measured_costs.measure_profiles([])
  assert keep.call_count == threads


def test_measured_times_are_seconds_of_what_runs(short):
  def sleep(x, seconds):
    time.sleep(float(seconds))
    return x

  def asleep(x, seconds):
    y = tf.tf1.py_func(sleep, [x, seconds], tf.float32)
    return tf.ensure_shape(y, x.shape)

  @tf.custom_gradient
  def slow(x):
    return asleep(x, 0.01), lambda dy: asleep(dy, 0.05)

  layer = costed_layers.computing(lambda x, w: slow(x * w), [WIDTH])
  costs = costed_layers.measured([*linear('a'), layer], spec(2, WIDTH))
  assert costs[1].forward >= 0.01
  # What both take, less what the forward pass takes alone.
  assert costs[1].backward >= 0.02
  [flops] = costed_layers.flops_costs(linear('a'), spec(2, WIDTH))
  assert costs[0].activation_bytes == flops.activation_bytes
  assert costs[0].weight_bytes == flops.weight_bytes


def test_measures_named_values_tied_weights_and_ints(short):
  # Enough that a pass stands out from what starting a run takes.
  rows = 50_000
  skip = [
    *linear('a'),
    PutLayer.Params().Set(name='put', puts=['skip'], argument=0),
    *linear('b'),
    TakeLayer.Params().Set(name='take', takes=['skip']),
  ]
  specs = spec(rows, WIDTH), spec(rows, dtype=tf.int32)
  tied = Tied.Params().Set(name='tied', weights_of={'tied': 'a.w'})

  def stands_out(layers, specs, place):
    # Another program may disturb one measurement, but not all.
    return any(
      costed_layers.measured(layers, specs)[place].forward > 0 for _ in range(3)
    )

  assert stands_out(skip, specs, 2)
  assert stands_out([*linear('a'), tied], specs[0], 1)


@pytest.mark.parametrize(
  ('width', 'swept'), [(2**10, [0, 0]), (2**18, [2**23, 0])]
)
def test_as_much_is_swept_as_the_other_layers_use(monkeypatch, width, swept):
  measure = mock.Mock(return_value={'forward': 1, 'backward': 2})
  monkeypatch.setattr(measured_costs, 'measure', measure)
  costed_layers.measured(
    [
      layers.FCLayer.Params().Set(name=name, input_dim=8, output_dim=dim)
      for name, dim in (('small', 8), ('large', width))
    ],
    spec(2, 8),
  )
  assert [call.args[1] for call in measure.call_args_list] == swept


def test_sweeps_are_not_part_of_times(short):
  profile = costed_layers.profiles(linear('a', 'b'), spec(2, WIDTH))[1]
  other = np.zeros(2**25, np.float32)

  def read():
    started = time.perf_counter()
    other.sum()
    return time.perf_counter() - started

  # Another program may disturb one measurement, but not all.
  swept = min(
    measured_costs.measure(profile, 2**27)['forward'] for _ in range(3)
  )
  assert swept < statistics.median(read() for _ in range(9)) / 2


def test_file_keeps_what_was_measured(short, tmp_path, monkeypatch):
  path = tmp_path / 'new' / 'costs.json'

  def measured(layers, rows=64):
    return [
      (cost.forward, cost.backward, cost.weight_share)
      for cost in costed_layers.measured(layers, spec(rows, WIDTH), str(path))
    ]

  first = measured(linear('a', 'b', 'c'))
  assert first[0][2] == 1
  assert 0 <= first[1][2] <= 1
  content = json.loads(path.read_text())
  # The first layer is another kind: without a gradient of its input.
  assert len(content['layers']) == 2
  times = {'forward': 7, 'backward': 8}
  monkeypatch.setattr(measured_costs, 'measure', lambda *_: times)
  assert measured(linear('x', 'y', 'z')) == first
  assert measured(linear('a'), rows=3) == [(7, 8, None)]
  # Older files have no shares.
  for entry in content['layers'].values():
    del entry['weight_share']
  path.write_text(json.dumps(content))
  assert [share for *_, share in measured(linear('a', 'b'))] == [None, None]


@pytest.mark.parametrize(
  'text',
  [
    '{"version": 1, "lay',
    '{"version": 2, "layers": {}}',
    '{"version": 1, "layers": {"a": {"forward": -1, "backward": 0}}}',
    '{"version": 1, "layers": {"a": {"forward": 1}}}',
    '[]',
  ],
)
def test_damaged_file_is_named(text, tmp_path):
  path = tmp_path / 'costs.json'
  path.write_text(text)
  with pytest.raises(ValueError, match=r'costs\.json cannot be used'):
    costed_layers.measured(linear('a'), spec(2, WIDTH), file=str(path))


def test_measured_layers_that_are_not_trained_have_no_backward_pass():
  # Long enough to be more than what starting a run varies by.
  profiles = costed_layers.profiles(
    linear('a', 'b'), spec(2**16, WIDTH), is_trained=lambda n: n.startswith('b')
  )
  a, b = measured_costs.measure_profiles(profiles)
  assert a.backward == 0 and not a.has_backward
  assert b.backward > 0 and b.has_backward
