# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import resource

import costed_layers
import layer_testing
import lingvo.compat as tf
import pytest
from costed_layers import WIDTH, Linear, Tied, computing, linear, spec
from lingvo.core import base_layer, layers

from lingvo_gpipe.models import image_layers
from lingvo_gpipe.named_layers import NamedValueLayer, PutLayer, TakeLayer


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
  def deep(x, w):
    hidden = tf.tanh(tf.matmul(x, w))
    hidden = tf.reshape(hidden, [-1, WIDTH]) + 1.0
    return tf.exp(hidden), x

  [result] = costed_layers.flops_costs([computing(deep)], spec(8, WIDTH))
  # tanh's output and exp's; not the sum, nor the input that is handed on.
  assert result.activation_bytes == 2 * (4 * 8 * WIDTH)
  assert result.output_bytes == 2 * (4 * 8 * WIDTH)


# Their gradients read what they are given, or what they return.
_COSINE = computing(lambda x, w: tf.cos(x))
_TANH = computing(lambda x, w: tf.tanh(x))


class Times(NamedValueLayer):
  """x * value, whose gradients read both."""

  def FProp(self, theta, x):
    return x * self.Take('value')


_PUT = PutLayer.Params().Set(puts=['value'])


@pytest.mark.parametrize(
  'behind, kept',
  [
    ([_COSINE], 1),
    ([_TANH], 0),
    ([_PUT, _TANH], 0),
    ([_PUT, _TANH, Times.Params().Set(takes=['value'])], 1),
    # Who is behind the last layer may read what that returns.
    ([], 1),
  ],
)
def test_an_output_is_kept_if_a_backward_pass_reads_it(behind, kept):
  # In another shape and back: no other memory.
  pass_on = computing(lambda x, w: tf.reshape(tf.reshape(x, [-1]), x.shape))
  product, *_ = costed_layers.flops_costs(
    [
      params.Copy().Set(name=f'l{i}')
      for i, params in enumerate([computing(tf.matmul), pass_on, *behind])
    ],
    spec(8, WIDTH),
  )
  tensor = 4 * 8 * WIDTH
  assert product.activation_bytes == kept * tensor
  assert product.transient_bytes == (1 - kept) * tensor


def test_loop_keeps_activations_of_each_time():
  def loop(x, w):
    return tf.while_loop(
      lambda i, y: i < 7, lambda i, y: (i + 1, tf.tanh(y)), (0, x * w)
    )[1]

  layer = computing(loop, [WIDTH])
  [result] = costed_layers.flops_costs([layer], spec(8, WIDTH))
  tensor = 4 * 8 * WIDTH
  assert 8 * tensor <= result.activation_bytes <= 8 * tensor + 16


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
  twice = computing(
    lambda x, w: (tf.matmul(x, w), tf.exp(tf.matmul(x, w))), name='twice'
  )
  uses_first = computing(lambda x, unused, w: x * w, [WIDTH])
  [both] = costed_layers.profiles([twice], spec(2, WIDTH))
  first_only, _ = costed_layers.profiles([twice, uses_first], spec(2, WIDTH))
  assert both.given == (True, True)
  assert first_only.given == (True, False)
  assert first_only.cost.backward == 2 * 2 * WIDTH**2
  assert both.cost.backward > 2 * first_only.cost.backward


def test_parameters_stand_for_times_without_shapes():
  costs = costed_layers.parameter_costs(
    linear('a', 'b', 'c'), is_trained=lambda name: name == 'b/w/var:0'
  )
  n = WIDTH**2
  assert [cost.forward for cost in costs] == [n, n, n]
  assert [cost.backward for cost in costs] == [0, 2 * n, n]
  assert [cost.gradient_bytes for cost in costs] == [0, 4 * n, 0]
  assert [cost.has_backward for cost in costs] == [False, True, True]


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
    def __init__(self, params):
      super().__init__(params)
      self.CreateChild('own', linear('own')[0])
      self.costs = costed_layers.flops_costs(linear('a', 'b'), spec(2, WIDTH))

  with layer_testing.graph_session(do_eval=True):
    layer = Counting.Params().Set(name='outer').Instantiate()
    assert list(layer.children) == ['own']
  # The costs are those of training, in evaluation too.
  costs = costed_layers.flops_costs(linear('a', 'b'), spec(2, WIDTH))
  assert layer.costs == costs


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
  assert put.flops.trace.put['skip'].shape.as_list() == [2, WIDTH]
  assert put.given == (True, True)
  assert sorted(take.call.taken) == ['side', 'skip']
  assert take.cost.forward == 2 * (2 * WIDTH)  # Two additions.


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
      TakeLayer.Params().Set(takes=['skip']),
      "Layer 'b' takes .*skip.*no layer before it puts.*side_input_shapes",
    ),
    (
      Tied.Params().Set(weights_of={'tied': 'nobody.w'}),
      "Layer 'b' uses the weights of 'nobody.w'.*no such layer",
    ),
    (
      Tied.Params().Set(weights_of={'tied': 'a.v'}),
      "Layer 'b' uses.*'a.v'.*no 'v'; there are .*w",
    ),
    (
      Linear.Params().Set(shape=[5, 5]),
      r"Layer 'b' \(Linear\) cannot run on float32\[2, 6\]",
    ),
    (layers.ProjectionLayer.Params().Set(input_dim=-3), "Layer 'b'"),
    (
      computing(lambda x, w: tf.boolean_mask(x, x[:, 0] > 0.0)),
      "What layer 'b'.*unknown",
    ),
  ],
)
def test_errors_name_the_layer_and_what_it_was_given(params, message):
  params = params.Copy().Set(name='b')
  with pytest.raises(ValueError, match=message):
    costed_layers.profiles([*linear('a'), params], spec(2, WIDTH))


def test_errors_name_arguments_that_are_none():
  with pytest.raises(ValueError, match=r'None, None.*takes from'):
    costed_layers.profiles(linear('a'), (spec(2, WIDTH), None, None))


def _of_frozen(*layers, trained, **kwargs):
  """Costs if only variables are trained whose names begin so."""
  return costed_layers.flops_costs(
    layers, spec(4, WIDTH), is_trained=lambda n: n.startswith(trained), **kwargs
  )


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


def test_a_tied_weight_is_frozen_with_its_owner():
  user = Tied.Params().Set(name='u', weights_of={'tied': 'a.w'})
  frozen = _of_frozen(*linear('a', 'b'), user, trained='b/')[2]
  trained = _of_frozen(*linear('a', 'b'), user, trained='a/')[2]
  assert trained.backward - frozen.backward == 2 * 4 * WIDTH**2


def test_flops_say_which_part_of_the_backward_pass_weights_take():
  # A product's two gradients take as much as each other.
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
