# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors of the partitioner say what is wrong, and what would fit."""

from fractions import Fraction

import pytest

from lingvo_gpipe.cutting.partitioner import (
  LayerCost,
  PartitionError,
  PipelineSpec,
  partition,
)


def _layers(number, **costs):
  return [LayerCost(f'layer{i}', **costs) for i in range(number)]


def test_more_cells_than_layers_is_refused():
  words = r'into 8 cells \(4 devices with 2 each\).* Use 5 cells or fewer'
  with pytest.raises(PartitionError, match=f'5 layers cannot be cut {words}'):
    partition(_layers(5, forward=1), PipelineSpec(4, cells_per_device=2))


def test_an_error_says_what_is_too_large_and_what_would_fit():
  layers = _layers(
    6, weight_bytes=100, activation_bytes=80, output_bytes=8, forward=1
  )
  spec = PipelineSpec(
    num_devices=2, num_micro_batches=4, micro_batch_size=8, device_memory=1000
  )
  with pytest.raises(PartitionError) as raised:
    partition(layers, spec)
  # Three layers: 600 of state, 300 of a micro-batch's gradients, 240 of
  # activations, and on the second device 4 inputs of 8 bytes.
  assert str(raised.value) == (
    'The layers do not fit, however they are cut. device_memory is 1000 bytes. '
    "In the cut that needs the least, device 1 with cell 1 (layers 'layer3' to "
    "'layer5') needs 1.14 KiB (1172 bytes): 900 bytes for "
    'weights, gradients and optimizer, 32 bytes for the stash and 240 bytes '
    'for the activations of a micro-batch. That is 172 bytes too much.\n'
    'It would fit with K = 3 cells on 3 devices (the smallest number; now 2 '
    'devices), or with micro-batches of 2 examples (the largest that fit; '
    'now 8).'
  )


def test_without_a_micro_batch_size_the_error_gives_the_number_of_them():
  layers = _layers(2, activation_bytes=1000, weight_bytes=1)
  with pytest.raises(PartitionError, match=r'in 3 micro-batches .* now 1'):
    partition(layers, PipelineSpec(1, device_memory=1005))


def test_a_layer_too_large_by_itself_is_named():
  layers = _layers(3, weight_bytes=10)
  layers[1] = LayerCost('embedding', weight_bytes=2**30, optimizer_bytes=2**30)
  with pytest.raises(PartitionError) as raised:
    partition(layers, PipelineSpec(2, device_memory=2**31))
  assert (
    "\nLayer 'embedding' alone needs 3.00 GiB (3221225472 bytes) or more, 1.00 "
    'GiB (1073741824 bytes) too much.\nNeither more devices nor smaller '
  ) in str(raised.value)


def test_shared_devices_are_named_with_all_their_cells():
  layers = _layers(4, weight_bytes=10)
  words = r"cell 0 \(layer 'layer0'\) and cell 2 \(layer 'layer2'\) needs 40 b"
  with pytest.raises(PartitionError, match=f'device 0 with {words}'):
    partition(layers, PipelineSpec(2, cells_per_device=2, device_memory=39))


def test_splits_are_described_and_checked():
  layers = _layers(5, forward=1, backward=2, output_bytes=7, weight_bytes=3)
  result = partition(layers, PipelineSpec(3), splits=[1, 2])
  assert result.sizes == (1, 1, 3)
  assert result.splits == (1, 2)
  assert [cell.cost for cell in result.cells] == [4, 4, 12]
  assert result.imbalance == Fraction(12 * 3, 20)
  assert result.crossing_bytes == 14
  for splits in ([1], [2, 1], [0, 2], [3, 5], [1, 2, 3]):
    with pytest.raises(
      PartitionError, match=r'2 ascending numbers from 1 to 4'
    ):
      partition(layers, PipelineSpec(3), splits=splits)
  with pytest.raises(PartitionError, match='with the given splits'):
    partition(layers, PipelineSpec(3, device_memory=20), splits=[1, 2])


@pytest.mark.parametrize(
  'argument, value',
  [('schedule', 'zigzag'), ('recompute', 'sometimes'), ('num_devices', 0)],
)
def test_bad_arguments_are_named(argument, value):
  with pytest.raises(ValueError, match=f'{argument}.* {value!r}'):
    PipelineSpec(**{'num_devices': 1, argument: value})
