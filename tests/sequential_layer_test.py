# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import functools
import json
import pickle
from typing import ClassVar

import lingvo.compat as tf
import pipeline_testing as pt
import pytest
import tiny_pipeline as tp
from lingvo.core import builder_layers

from lingvo_gpipe import schedules, sequential_layer
from lingvo_gpipe.cutting.partitioner import PartitionError
from lingvo_gpipe.pipeline import flat_layers

_SHAPES = 'float32[2,6,6,4], float32[2,4], int32[2]'
_TARGETS = 'labels=int64[2], weights=float32[2]'


def _sequence(name, *sub, **kwargs):
  return builder_layers.SequentialLayer.Params().Set(
    name=name, sub=list(sub), **kwargs
  )


def _blocks():
  first, second, stem, _ = pt.layer_params(keep_prob=0.8)
  return [stem.Set(name='stem'), _sequence('blocks', first, second, repeat=2)]


def _params(num_partitions=2, **kwargs):
  kwargs.setdefault('sub', _blocks())
  kwargs.setdefault('loss_tpl', pt.Loss.Params().Set(name='loss'))
  kwargs.setdefault('num_micro_batches', 4)
  return sequential_layer.GPipeSequentialLayer.Params().Set(
    name='net', num_partitions=num_partitions, **kwargs
  )


def _run(params):
  return pt.run_step(
    params, pt.data(), num_devices=max(params.num_partitions, 1)
  )


@functools.cache
def _reference():
  return _run(_params(1))


@pytest.mark.parametrize(
  ('num_partitions', 'kwargs'),
  [
    (2, {'schedule': '1f1b'}),
    (3, {'recompute': 'never'}),
    (4, {'schedule': '1f1b', 'recompute': 'except_last'}),
    (5, {}),
    # Through the middle of a sequence and of a repetition.
    (3, {'splits': [2, 4]}),
    (2, {'splits': [1]}),
  ],
)
def test_no_name_mask_or_bit_depends_on_the_cut(num_partitions, kwargs):
  result = _run(_params(num_partitions, **kwargs))
  assert 'net/blocks/001/l0/conv/w/var:0' in result.gradients
  pt.assert_identical(result, _reference())


def _cut(params, num_devices=2):
  plan = sequential_layer.GPipeSequentialLayer.Plan(params, num_devices)
  return plan.partition


def _sizes(params, num_devices=2):
  return _cut(params, num_devices).sizes


def test_sequences_repeats_and_lists_are_one_list_of_layers():
  inner = _sequence('inner', *tp.linear('c'))
  blocks = _sequence('blocks', *tp.linear('b'), inner, repeat=2)
  params = _params(sub=[tp.linear('a'), blocks, [tp.linear('d', '')]])
  assert [layer.name for layer in _cut(params).layers] == [
    *('a', 'blocks/000/b', 'blocks/000/inner/c'),
    *('blocks/001/b', 'blocks/001/inner/c', 'd', 'layer_3'),
  ]


def test_layers_inherit_what_their_sequence_says():
  blocks = _sequence('blocks', *tp.linear('a'), fprop_dtype=tf.bfloat16)
  [layer] = flat_layers.flatten([blocks], _params().Set(random_seed=5))
  assert layer.params.fprop_dtype == tf.bfloat16
  assert layer.params.random_seed == 5
  [container] = flat_layers.cell_params('c', [layer]).sub
  assert container.fprop_dtype == tf.bfloat16


def test_costs_given_splits_and_devices_decide_on_the_cut():
  assert _sizes(_params(balance=[1, 1, 1, 1, 4])) == (4, 1)
  assert _sizes(_params(balance=[4, 1, 1, 1, 1])) == (1, 4)
  assert _sizes(_params(balance=[4, 1, 1, 1, 1], splits=[3])) == (3, 2)
  assert _sizes(_params(0, splits=[3])) == (3, 2)
  assert len(_sizes(_params(0), num_devices=4)) == 4


class _Wide(tp.Linear):
  def FProp(self, theta, x):
    for _ in range(8):
      x = super().FProp(theta, x)
    return x


def test_flops_count_where_shapes_are_known_and_parameters_else():
  sub = [_Wide.Params().Set(name='wide'), *tp.linear('a', 'b', 'c')]
  params = _params(sub=sub, loss_tpl=None)
  assert _sizes(params) == (2, 2)
  params.input_shapes = 'float32[4,3]'
  assert _sizes(params) == (1, 3)
  assert _sizes(params.Set(balance='params')) == (2, 2)


def test_copies_pickles_and_texts_give_the_same_cut():
  params = _params(3, balance=[5, 1, 1, 1, 1], input_shapes=_SHAPES)
  text = params.ToText()
  others = [
    params.Copy(),
    pickle.loads(pickle.dumps(params)),
    _params(7, balance=[0] * 5, input_shapes='float32[1]').FromText(text),
  ]
  assert _sizes(params) == (1, 2, 2)
  for other in others:
    assert _sizes(other) == (1, 2, 2)
    assert other.ToText() == text


def test_the_table_tells_cells_costs_and_memory():
  params = _params(2, input_shapes=_SHAPES, target_shapes=_TARGETS)
  with pt.graph(2):
    layer = params.Instantiate()
    table = layer.table
  assert table.basis == 'flops'
  assert [row.device for row in table.rows] == layer.cell_devices
  assert sum(row.share for row in table.rows) == pytest.approx(1)
  # Each has 3 x 3 x 4 x 4 weights and 4 scales; the loss 4 x 5.
  assert sum(row.parameters for row in table.rows) == 5 * 148 + 20
  cell = table.rows[1].cell
  assert cell.crossing_bytes == 2 * (6 * 6 * 4 + 4 + 1) * 4
  # Fill-drain stashes the four inputs.
  assert cell.memory.stash == 4 * cell.crossing_bytes


def test_the_cut_respects_the_devices_memory():
  params = _params(2, balance=[1, 1, 1, 1, 4], input_shapes=_SHAPES)
  needed = max(_cut(params).device_memory)
  for limit in (needed - 1, f'{(needed - 1) / 2**10}KiB'):
    params.FromText(f'device_memory : {limit}')
    assert max(_cut(params).device_memory) < needed
  params.device_memory = '1kB'
  with pytest.raises(PartitionError, match='net: The layers do not fit'):
    _sizes(params)


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({'num_partitions': 9}, 'net.num_partitions is 9, but net.sub has 5 lay'),
    ({'num_partitions': -1}, r'net.num_partitions is -1; .* of 0 or more'),
    ({'num_partitions': '2'}, r"net.num_partitions is '2'; .* whole number"),
    ({'optimizer_slots': 1.5}, r'net.optimizer_slots is 1.5; .* whole number'),
    ({'balance': 'flop'}, "balance is 'flop'; it must be one of"),
    ({'balance': [1, 2]}, r'balance is \[1, 2\].*list of 5 numbers'),
    ({'balance': [1, 1, 1, 1, -1]}, 'list of 5 numbers of 0 or more'),
    ({'balance': 'measured'}, "balance is 'measured', which needs input_shap"),
    ({'splits': [3, 2]}, r'net: splits is \[3, 2\]'),
    ({'splits': 1}, r'net: splits is 1; it must be a list of whole numbers'),
    ({'splits': [True]}, r'net: splits is \[True\]; it must be a list of wh'),
    ({'device_memory': '8GiB'}, 'without input_shapes'),
    (
      {'device_memory': 'much', 'input_shapes': _SHAPES},
      "device_memory is 'much'; use bytes, or text such as '8GiB'",
    ),
    ({'costs_file': 3}, 'net.costs_file is 3; it must be text'),
    (
      {'side_input_shapes': 'float32[4]'},
      r"net.side_input_shapes is 'float32\[4\]'; each needs its name",
    ),
    ({'input_shapes': 'float32[?]'}, 'net.input_shapes is'),
    ({'schedule': 'pipedream'}, "net.schedule is 'pipedream': .* must be one"),
    ({'sub': [[1]]}, r'net.sub\[0\]\[0\] is 1; it must be Params of a layer'),
    ({'sub': tp.linear('a', 'b', 'b')}, r'net.sub has several .* named b\.'),
    ({'sub': [[], _sequence('s')]}, 'net.sub has no layer'),
    (
      {'sub': [_sequence('s', *tp.linear('a'), save_output=True)]},
      "'s' has save_output",
    ),
  ],
)
def test_unusable_params_are_refused_by_name(kwargs, message):
  with pytest.raises(ValueError, match=message):
    _sizes(_params(**kwargs))


def test_cells_of_its_own_are_refused():
  params = _params().Set(cell_tpl=pt.cells(pt.layer_params(), 2))
  with pytest.raises(ValueError, match=r'net\.cell_tpl is set'):
    params.Instantiate()


@pytest.mark.parametrize('splits', [[2], [1, 3], [1, 2, 3, 4]])
def test_variables_are_those_of_the_plain_sequence(splits):
  variables = []
  plain = _sequence('net', *_blocks())
  for params in (plain, _params(0, loss_tpl=None, splits=splits)):
    with pt.cluster(len(splits) + 1), tf.Graph().as_default():
      params.Instantiate()
      variables.append({v.name: v.shape for v in tf.global_variables()})
  assert variables[0] == variables[1]


class _Named(tp.Linear):
  """A layer with a Param that does not change its cost."""

  builds: ClassVar[list] = []

  PARAMS = {'number': 0}

  @classmethod
  def CostParams(cls, p):
    return p.Copy().Set(number=0)

  def __init__(self, params):
    super().__init__(params)
    self.builds.append(params.number)


def test_layers_that_cost_the_same_are_built_once_for_costing():
  sub = [_Named.Params().Set(name=f'l{i}', number=i) for i in range(5)]
  params = _params(sub=sub, loss_tpl=None, input_shapes='float32[4,3]')
  _Named.builds.clear()
  _sizes(params)
  assert set(_Named.builds) == {0}
  with pt.graph(2):
    params.Instantiate()
  assert set(_Named.builds) == set(range(5))


@pytest.mark.parametrize('balance', ['flops', 'params'])
@pytest.mark.parametrize(
  'trained', ['^task/net/blocks/001/', '/blocks/001/l1/', 'no such name']
)
def test_what_a_learner_leaves_out_costs_no_backward_pass(balance, trained):
  net = _params(4, input_shapes=_SHAPES, balance=balance, schedule='1f1b')
  p = tp.task_params(net)
  p.train.learner.bprop_variable_filter = trained
  with pt.graph(4):
    layer = p.Instantiate().net
    examples = pt.data()
    layer.ComputeLoss(layer.theta, examples.inputs, examples.targets)
  cut, schedule = layer.plan.partition, layer.schedule
  first = {'^': 3, '/': 4, 'n': 5}[trained[0]]
  assert [x.has_backward for x in cut.layers] == [i >= first for i in range(5)]
  assert [x.name for x in cut.layers if x.gradient_sum_bytes] == {
    3: ['blocks/001/l0', 'blocks/001/l1'],
    4: ['blocks/001/l1'],
    5: [],
  }[first]
  if first == 5:
    assert schedule.forward_only and cut.first_backward == 4
  else:
    assert schedule.first_backward == cut.first_backward > 0
  for row in layer.table.rows[: cut.first_backward]:
    assert row.sizes[1:4] == [0, 0, 0]  # Gradients, slots and stash.


def test_the_best_order_is_kept_in_the_file_of_costs(tmp_path):
  path = tmp_path / 'costs.json'
  net = _params(2, schedule='auto', costs_file=str(path))

  def schedule():
    with pt.graph(2):
      layer = net.Instantiate()
      examples = pt.data()
      layer.ComputeLoss(layer.theta, examples.inputs, examples.targets)
    return layer.schedule

  found = schedule()
  (order,) = json.loads(path.read_text())['orders'].values()
  assert order['device_tasks'][0] == [str(t) for t in found.device_tasks[0]]
  schedules.find_best_order.cache_clear()
  assert schedule() == found


def test_a_trained_layer_before_the_pipeline_needs_all_backwards():
  params = _params(
    2,
    before_tpl=tp.linear('before'),
    input_shapes=_SHAPES,
    loss_tpl=None,
    bprop_variable_filter='net/before',
  )
  assert all(layer.has_backward for layer in _cut(params).layers)
  params.bprop_variable_filter = 'net/blocks/001'
  assert not _cut(params).layers[0].has_backward
