# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests of what layers cost in bytes and seconds, in their places."""

import dataclasses
import json
import resource
import statistics
import time

import costed_layers
import layer_testing
import lingvo.compat as tf
import numpy as np
import pytest
from lingvo.core import base_layer, layers, py_utils

from lingvo_gpipe.costing import measure, measured_costs
from lingvo_gpipe.cutting import cost_model
from lingvo_gpipe.models import image_layers
from lingvo_gpipe.named_layers import NamedValueLayer, PutLayer, TakeLayer

WIDTH = 6


def spec(*shape, dtype=tf.float32):
  return tf.TensorSpec(shape, dtype)


class Linear(base_layer.BaseLayer):
  """tanh(x w) of [batch, WIDTH], with an int tensor that is handed on."""

  traced = 0

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable(
      'w', py_utils.WeightParams([WIDTH, WIDTH], dtype=params.dtype)
    )

  def FProp(self, theta, x, ids=None):
    Linear.traced += 1
    y = tf.tanh(tf.matmul(x, theta.w))
    return y if ids is None else (y, ids)


def linear(*names):
  return [Linear.Params().Set(name=name) for name in names]


@pytest.mark.parametrize(
  'cost',
  [
    lambda *args, **kwargs: costed_layers.flops_costs(
      *args, spec(2, 4, 4, 3), **kwargs
    ),
    costed_layers.parameter_costs,
  ],
)
def test_bytes_of_weights_gradients_and_slots(cost):
  params = image_layers.ReluConvBatchNorm.Params().Set(
    name='conv', input_dim=3, output_dim=5
  )
  [layer] = cost([params], slots=3)
  trained = 3 * 5 + 2 * 5
  assert layer.parameters == trained
  # The moving mean and variance are variables too.
  assert layer.weight_bytes == 4 * (trained + 2 * 5)
  assert layer.gradient_bytes == 4 * trained
  assert layer.optimizer_bytes == 3 * 4 * trained


def test_half_precision_weights_have_float32_gradients_and_slots():
  [layer] = costed_layers.flops_costs(
    [Linear.Params().Set(name='a', dtype=tf.bfloat16)],
    spec(2, WIDTH, dtype=tf.bfloat16),
  )
  assert layer.weight_bytes == 2 * WIDTH**2
  assert layer.gradient_bytes == 4 * WIDTH**2
  assert layer.optimizer_bytes == 2 * 4 * WIDTH**2
  assert layer.output_bytes == 2 * 2 * WIDTH


def test_activations_are_what_the_backward_pass_needs_and_the_output():
  class Deep(base_layer.BaseLayer):
    """Three steps, and a reshape that takes no memory."""

    def __init__(self, params):
      super().__init__(params)
      self.CreateVariable('w', py_utils.WeightParams([WIDTH, WIDTH]))

    def FProp(self, theta, x):
      hidden = tf.tanh(tf.matmul(x, theta.w))
      hidden = tf.reshape(hidden, [-1, WIDTH]) + 1.0
      return tf.exp(hidden), x

  [result] = costed_layers.flops_costs(
    [Deep.Params().Set(name='deep')], spec(8, WIDTH)
  )
  # tanh's output and exp's; not the sum, nor the input that is handed on.
  assert result.activation_bytes == 2 * (4 * 8 * WIDTH)
  assert result.output_bytes == 2 * (4 * 8 * WIDTH)


class Product(base_layer.BaseLayer):
  """x w, whose gradients read x and w."""

  def __init__(self, params):
    super().__init__(params)
    self.CreateVariable('w', py_utils.WeightParams([WIDTH, WIDTH]))

  def FProp(self, theta, x):
    return tf.matmul(x, theta.w)


class PassOn(base_layer.BaseLayer):
  """x in another shape and back: no other memory."""

  def FProp(self, theta, x):
    return tf.reshape(tf.reshape(x, [-1]), x.shape)


class Cosine(base_layer.BaseLayer):
  """cos(x), whose gradient reads x."""

  def FProp(self, theta, x):
    return tf.cos(x)


class Tanh(base_layer.BaseLayer):
  """tanh(x), whose gradient reads its own output."""

  def FProp(self, theta, x):
    return tf.tanh(x)


class Times(NamedValueLayer):
  """x * value, whose gradients read both."""

  def FProp(self, theta, x):
    return x * self.Take('value')


@pytest.mark.parametrize(
  'behind, kept',
  [
    ([Cosine.Params()], 1),
    ([Tanh.Params()], 0),
    ([PutLayer.Params().Set(puts=['value']), Tanh.Params()], 0),
    (
      [
        PutLayer.Params().Set(puts=['value']),
        Tanh.Params(),
        Times.Params().Set(takes=['value']),
      ],
      1,
    ),
    # Who is behind the last layer may read what that returns.
    ([], 1),
  ],
)
def test_an_output_is_kept_if_a_backward_pass_reads_it(behind, kept):
  layers_ = [Product.Params(), PassOn.Params(), *behind]
  product, *_ = costed_layers.flops_costs(
    [p.Set(name=f'l{i}') for i, p in enumerate(layers_)], spec(8, WIDTH)
  )
  tensor = 4 * 8 * WIDTH
  assert product.activation_bytes == kept * tensor
  assert product.transient_bytes == (1 - kept) * tensor


def test_loop_keeps_activations_of_each_time():
  class Loop(base_layer.BaseLayer):
    """Seven times tanh."""

    def __init__(self, params):
      super().__init__(params)
      self.CreateVariable('w', py_utils.WeightParams([WIDTH]))

    def FProp(self, theta, x):
      return tf.while_loop(
        lambda i, y: i < 7, lambda i, y: (i + 1, tf.tanh(y)), (0, x * theta.w)
      )[1]

  [result] = costed_layers.flops_costs(
    [Loop.Params().Set(name='loop')], spec(8, WIDTH)
  )
  tensor = 4 * 8 * WIDTH
  assert 8 * tensor <= result.activation_bytes <= 8 * tensor + 16


def test_profiles_tell_the_specs_between_layers():
  result = costed_layers.profiles(
    linear('a', 'b'), (spec(2, WIDTH), spec(2, dtype=tf.int32))
  )
  assert [p.name for p in result] == ['a', 'b']
  y, ids = result[0].outputs
  assert y.shape.as_list() == [2, WIDTH]
  assert ids.dtype == tf.int32
  assert result[1].call.args == (y, ids)
  assert result[1].cost.output_bytes == 4 * (2 * WIDTH + 2)


def test_a_thousand_alike_layers_are_traced_once_and_named_each():
  Linear.traced = 0
  names = [f'layer_{i}' for i in range(1663)]
  costs = costed_layers.flops_costs(linear(*names), spec(2, WIDTH))
  assert [cost.name for cost in costs] == names
  assert Linear.traced == 1
  product, numbers = 2 * 2 * WIDTH**2, 2 * WIDTH
  assert {cost.forward for cost in costs} == {product + numbers}
  # The first has no gradient of its input.
  assert costs[0].backward == product + numbers
  assert {cost.backward for cost in costs[1:]} == {2 * product + numbers}


def test_gradients_go_only_where_they_are_needed():
  class Stop(base_layer.BaseLayer):
    """Uses its first argument alone."""

    def __init__(self, params):
      super().__init__(params)
      self.CreateVariable('w', py_utils.WeightParams([WIDTH]))

    def FProp(self, theta, x, unused):
      return x * theta.w

  class Twice(base_layer.BaseLayer):
    """Returns two tensors with a gradient."""

    def __init__(self, params):
      super().__init__(params)
      self.CreateVariable('w', py_utils.WeightParams([WIDTH, WIDTH]))

    def FProp(self, theta, x):
      return tf.matmul(x, theta.w), tf.exp(tf.matmul(x, theta.w))

  both = costed_layers.profiles(
    [Twice.Params().Set(name='twice')], spec(2, WIDTH)
  )
  first_only = costed_layers.profiles(
    [Twice.Params().Set(name='twice'), Stop.Params().Set(name='stop')],
    spec(2, WIDTH),
  )
  assert both[0].given == (True, True)
  assert first_only[0].given == (True, False)
  assert first_only[0].cost.backward == 2 * 2 * WIDTH**2
  assert both[0].cost.backward > 2 * first_only[0].cost.backward


def test_parameters_stand_for_times_without_shapes():
  result = costed_layers.parameter_costs(linear('a', 'b'))
  assert result[1] == cost_model.LayerCost(
    name='b',
    forward=WIDTH**2,
    backward=2 * WIDTH**2,
    parameters=WIDTH**2,
    weight_bytes=4 * WIDTH**2,
    gradient_bytes=4 * WIDTH**2,
    optimizer_bytes=8 * WIDTH**2,
  )


def test_takes_no_memory_for_parameters_or_activations():
  params = layers.ProjectionLayer.Params().Set(
    name='huge', input_dim=2**20, output_dim=2**20, batch_norm=False
  )
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  [result] = costed_layers.flops_costs([params], spec(2**20, 2**20))
  after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  assert result.weight_bytes == result.output_bytes == 2**42
  assert result.forward >= 2**61
  assert after - before < 2**20  # KiB


def test_can_be_asked_while_a_layer_is_built():
  class Counting(base_layer.BaseLayer):
    """Asks in its __init__."""

    def __init__(self, params):
      super().__init__(params)
      self.CreateChild('own', linear('own')[0])
      self.costs = costed_layers.flops_costs(linear('a', 'b'), spec(2, WIDTH))

  with layer_testing.graph_session(do_eval=True):
    layer = Counting.Params().Set(name='outer').Instantiate()
    assert list(layer.children) == ['own']
  # The costs are those of training, in evaluation too.
  assert layer.costs == costed_layers.flops_costs(
    linear('a', 'b'), spec(2, WIDTH)
  )


# -- Named values and tied weights.


def test_values_reach_the_layers_that_take_them():
  result = costed_layers.profiles(
    [
      *linear('a'),
      PutLayer.Params().Set(name='put', puts=['skip']),
      *linear('b'),
      TakeLayer.Params().Set(name='take', takes=['skip', 'side']),
      *linear('c'),
    ],
    spec(2, WIDTH),
    named_specs={'side': spec(2, 1)},
  )
  put, take = result[1], result[3]
  assert put.put['skip'].shape.as_list() == [2, WIDTH]
  assert put.given == (True, True)
  assert sorted(take.call.taken) == ['side', 'skip']
  assert take.cost.forward == 2 * (2 * WIDTH)  # Two additions.


def test_layers_that_take_other_shapes_are_costed_apart():
  takers = [TakeLayer.Params().Set(name='take', takes=['a'], combine='concat')]
  for width in (1, 5):
    result = costed_layers.profiles(
      takers, spec(2, WIDTH), named_specs={'a': spec(2, width)}
    )
    assert result[0].outputs.shape.as_list() == [2, WIDTH + width]


class Tied(NamedValueLayer):
  """x w of another layer's weight."""

  def FProp(self, theta, x):
    return tf.matmul(x, theta.tied, transpose_b=True)


def test_tied_weights_count_for_their_owner():
  tied = Tied.Params().Set(name='tied', weights_of={'tied': 'a.w'})
  result = costed_layers.flops_costs([*linear('a'), tied], spec(2, WIDTH))
  assert result[1].weight_bytes == result[1].parameters == 0
  product = 2 * 2 * WIDTH**2
  assert (result[1].forward, result[1].backward) == (product, 2 * product)


@pytest.mark.parametrize(
  ('params', 'message'),
  [
    (
      TakeLayer.Params().Set(name='take', takes=['skip']),
      "Layer 'take' takes .*skip.*no layer before it puts.*side_input_shapes",
    ),
    (
      Tied.Params().Set(name='tied', weights_of={'tied': 'nobody.w'}),
      "Layer 'tied' uses the weights of 'nobody.w'.*no such layer",
    ),
    (
      Tied.Params().Set(name='tied', weights_of={'tied': 'a.v'}),
      "Layer 'tied' uses.*'a.v'.*no 'v'; there are .*w",
    ),
  ],
)
def test_refuses_named_values_that_are_not_there(params, message):
  with pytest.raises(ValueError, match=message):
    costed_layers.flops_costs([*linear('a'), params], spec(2, WIDTH))


# -- Errors.


def test_unknown_dimensions_are_refused():
  with pytest.raises(ValueError, match=r'input_shapes has the shape \(None, 6'):
    costed_layers.flops_costs(linear('a'), spec(None, WIDTH))
  with pytest.raises(ValueError, match='side_input_shapes has the shape'):
    costed_layers.flops_costs(
      linear('a'), spec(2, WIDTH), named_specs={'side': spec(None)}
    )
  with pytest.raises(
    ValueError, match=r'input_shapes must be a nest.*\[2, 6\]'
  ):
    costed_layers.flops_costs(linear('a'), {'x': '[2, 6]'})


@pytest.mark.parametrize(
  ('args', 'message'),
  [
    ((spec(2, 5),), r"Layer 'a' \(Linear\) cannot run on float32\[2, 5\]"),
    (
      (spec(2, WIDTH), None, None),
      r"Layer 'a' .*None, None.*takes from",
    ),
  ],
)
def test_errors_name_the_layer_and_what_it_was_given(args, message):
  with pytest.raises(ValueError, match=message):
    costed_layers.profiles(linear('a'), args)


def test_layer_that_cannot_be_built_is_named():
  broken = layers.ProjectionLayer.Params().Set(name='broken', input_dim=-3)
  with pytest.raises(ValueError, match=r"Layer 'broken' .*cannot be built"):
    costed_layers.parameter_costs([broken])


def test_outputs_of_unknown_size_are_refused():
  class Mask(base_layer.BaseLayer):
    """Returns as many rows as are positive."""

    def FProp(self, theta, x):
      return tf.boolean_mask(x, x[:, 0] > 0.0)

  with pytest.raises(ValueError, match=r"What layer 'mask'.*unknown"):
    costed_layers.flops_costs([Mask.Params().Set(name='mask')], spec(2, WIDTH))


# -- Measuring.


@pytest.fixture
def short(monkeypatch):
  """Measures with few runs."""
  monkeypatch.setattr(measure, '_LEAST_SECONDS', 0.0)
  monkeypatch.setattr(measure, '_LEAST_RUNS', 5)
  monkeypatch.setattr(measure, '_WARM_UP_RUNS', 1)


def test_measured_times_are_seconds_of_what_runs(short):
  class Slow(base_layer.BaseLayer):
    """Sleeps, forward for 10 ms, backward for 50 ms."""

    def __init__(self, params):
      super().__init__(params)
      self.CreateVariable('w', py_utils.WeightParams([WIDTH]))

    def FProp(self, theta, x):
      def sleep(x, seconds):
        time.sleep(float(seconds))
        return x

      @tf.custom_gradient
      def slow(x):
        def gradient(dy):
          return tf.ensure_shape(
            tf.tf1.py_func(sleep, [dy, 0.05], tf.float32), x.shape
          )

        y = tf.tf1.py_func(sleep, [x, 0.01], tf.float32)
        return tf.ensure_shape(y, x.shape), gradient

      return slow(x * theta.w)

  costs = costed_layers.measured(
    [*linear('a'), Slow.Params().Set(name='slow')], spec(2, WIDTH)
  )
  assert costs[1].forward >= 0.01
  # What both take, less what the forward pass takes alone.
  assert costs[1].backward >= 0.02
  flops = costed_layers.flops_costs(linear('a'), spec(2, WIDTH))
  assert costs[0].activation_bytes == flops[0].activation_bytes
  assert costs[0].weight_bytes == flops[0].weight_bytes


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
  result = []

  def measured(profile, swept_bytes):
    assert all(profile.trained)
    result.append(swept_bytes)
    return measure.Times(1.0, 2.0)

  monkeypatch.setattr(measure, 'measure', measured)
  costed_layers.measured(
    [
      layers.FCLayer.Params().Set(name=name, input_dim=8, output_dim=dim)
      for name, dim in (('small', 8), ('large', width))
    ],
    spec(2, 8),
  )
  assert result == swept


def test_sweeps_are_not_part_of_times(short):
  def times(num_bytes):
    profile = costed_layers.profiles(linear('a', 'b'), spec(2, WIDTH))[1]
    return measure.measure(profile, num_bytes)

  other = np.zeros(2**25, np.float32)

  def read():
    started = time.perf_counter()
    other.sum()
    return time.perf_counter() - started

  # Another program may disturb one measurement, but not all.
  swept = min(times(2**27).forward for _ in range(3))
  assert swept < statistics.median(read() for _ in range(9)) / 2


def test_file_keeps_what_was_measured(short, tmp_path, monkeypatch):
  path = tmp_path / 'new' / 'costs.json'
  first = costed_layers.measured(
    linear('a', 'b', 'c'), spec(2, WIDTH), str(path)
  )
  content = json.loads(path.read_text())
  # The first layer is another kind: without a gradient of its input.
  assert len(content['layers']) == 2
  monkeypatch.setattr(
    measure, 'measure', lambda *_, **__: pytest.fail('is measured again')
  )
  again = costed_layers.measured(
    linear('x', 'y', 'z'), spec(2, WIDTH), str(path)
  )
  assert [c.forward for c in again] == [c.forward for c in first]
  assert [c.backward for c in again] == [c.backward for c in first]
  monkeypatch.setattr(
    measure, 'measure', lambda *_, **__: measure.Times(7.0, 8.0)
  )
  other = costed_layers.measured(linear('a'), spec(3, WIDTH), str(path))
  assert (other[0].forward, other[0].backward) == (7.0, 8.0)
  assert len(json.loads(path.read_text())['layers']) == 3


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


def test_no_layers_have_no_costs():
  assert costed_layers.profiles([], spec(2, WIDTH)) == []


def _of_frozen(*layers, trained, **kwargs):
  """Costs if only variables are trained whose names begin so."""
  profiles = costed_layers.profiles(
    layers, spec(4, WIDTH), is_trained=lambda n: n.startswith(trained), **kwargs
  )
  return [profile.cost for profile in profiles]


def test_what_is_not_trained_has_no_gradient_and_no_slots():
  a, b, c, d = _of_frozen(*linear('a', 'b', 'c', 'd'), trained='c/')
  first, *_, last = costed_layers.flops_costs(
    linear('a', 'b', 'c', 'd'), spec(4, WIDTH)
  )
  for frozen in (a, b, d):
    assert frozen.weight_bytes == 4 * WIDTH**2
    assert frozen.gradient_bytes == frozen.optimizer_bytes == 0
  assert [x.has_backward for x in (a, b, c, d)] == [False, False, True, True]
  assert a.backward == b.backward == 0
  # Of the weight alone, as in the first of layers that are all trained.
  assert c == dataclasses.replace(first, name='c')
  # Of data alone: one product in place of two.
  assert last.backward - d.backward == 2 * 4 * WIDTH**2
  assert d.forward == last.forward


def test_trained_inputs_need_gradients_from_every_layer():
  costs = _of_frozen(*linear('a', 'b'), trained='none', inputs_trained=True)
  assert all(cost.has_backward and cost.backward for cost in costs)
  assert all(cost.gradient_bytes == 0 for cost in costs)
  costs = _of_frozen(*linear('a', 'b'), trained='none')
  assert not any(cost.has_backward or cost.backward for cost in costs)


def test_parameters_that_are_not_trained_cost_less_backward():
  costs = costed_layers.parameter_costs(
    linear('a', 'b', 'c'), is_trained=lambda name: name == 'b/w/var:0'
  )
  n = WIDTH**2
  assert [cost.backward for cost in costs] == [0, 2 * n, n]
  assert [cost.gradient_bytes for cost in costs] == [0, 4 * n, 0]
  assert [cost.has_backward for cost in costs] == [False, True, True]


def test_a_tied_weight_is_frozen_with_its_owner():
  user = Tied.Params().Set(name='u', weights_of={'tied': 'a.w'})
  frozen = _of_frozen(*linear('a', 'b'), user, trained='b/')[2]
  trained = _of_frozen(*linear('a', 'b'), user, trained='a/')[2]
  assert trained.backward - frozen.backward == 2 * 4 * WIDTH**2


def test_measured_layers_that_are_not_trained_have_no_backward_pass():
  # Long enough to be more than what starting a run varies by.
  profiles = costed_layers.profiles(
    linear('a', 'b'), spec(2**16, WIDTH), is_trained=lambda n: n.startswith('b')
  )
  a, b = measured_costs.measure_profiles(profiles)
  assert a.backward == 0 and not a.has_backward
  assert b.backward > 0 and b.has_backward


def test_flops_say_which_part_of_the_backward_pass_weights_take():
  """A product's two gradients take as much as each other."""
  plain, frozen = (
    costed_layers.flops_costs(linear('a', 'b'), spec(64, WIDTH), **training)
    for training in ({}, {'is_trained': lambda name: name.startswith('a')})
  )
  # The first layer has no gradient of its input; tanh's is in that of inputs.
  assert plain[0].weight_share == 1
  assert 0.4 < plain[1].weight_share < 0.5
  assert frozen[1].weight_share == 0
  tanh = plain[1].backward - 2 * plain[1].weight_gradient
  assert 0 < tanh < plain[1].weight_gradient


def test_measured_halves_of_the_backward_pass_are_kept_in_the_file(tmp_path):
  path = tmp_path / 'costs.json'
  costs = costed_layers.measured(linear('a', 'b'), spec(64, WIDTH), str(path))
  assert costs[0].weight_share == 1
  assert 0 <= costs[1].weight_share <= 1
  assert costed_layers.measured(
    linear('a', 'b'), spec(64, WIDTH), str(path)
  ) == (costs)
  # Older files do not have them.
  content = json.loads(path.read_text())
  for entry in content['layers'].values():
    del entry['weight_share']
  path.write_text(json.dumps(content))
  old = costed_layers.measured(linear('a', 'b'), spec(64, WIDTH), str(path))
  assert [cost.weight_share for cost in old] == [None, None]
  assert old[1].weight_gradient == old[1].backward / 2
