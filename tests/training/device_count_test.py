# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
import pytest
import tiny_pipeline as tiny
from lingvo.core import hyperparams

from lingvo_gpipe import schedules, sequential_layer
from lingvo_gpipe.training import device_count, user_error


def _model(**pipelines):
  p = hyperparams.Params()
  for name, value in pipelines.items():
    p.Define(name, value, '')
  return p


def _sequential(**kwargs):
  return sequential_layer.GPipeSequentialLayer.Params().Set(name='s', **kwargs)


@pytest.mark.parametrize(
  ('params', 'num_cells'),
  [
    (_sequential(num_partitions=4), 4),
    (_sequential(splits=[3, 5]), 3),
    (tiny.pipeline(tiny.linear('a', 'b', 'c'), num_cells=3), 3),
  ],
)
def test_a_number_of_cells_that_params_fix_is_found(params, num_cells):
  (found,) = device_count.fixed_pipelines(_model(net=params))
  assert found.num_cells == num_cells
  assert found.schedule == params.schedule


def test_a_pipeline_that_takes_what_devices_there_are_is_not_fixed():
  assert device_count.fixed_pipelines(_model(net=_sequential())) == []


def _fixed(schedule='1f1b'):
  return [device_count.FixedPipeline('net', 4, schedule, 'num_partitions=4')]


@pytest.mark.parametrize('num_devices', [4, 8])
def test_a_device_for_each_cell_is_enough(num_devices):
  device_count.check(_fixed(), num_devices, '')


def test_fewer_devices_are_an_error_with_both_numbers_and_a_remedy():
  with pytest.raises(
    user_error.UserError,
    match=(
      r"^--worker_split_size=2: pipeline 'net' has 4 cells \(num_partitions=4\)"
      r', but only 2 device\(s\)\. Give it 4 devices, or set num_partitions'
    ),
  ):
    device_count.check(_fixed(), 2, '--worker_split_size=2')


def test_a_schedule_with_several_cells_on_a_device_needs_no_more():
  device_count.check(_fixed('interleaved_1f1b'), 2, '')
  # What a flag says counts.
  (found,) = device_count.fixed_pipelines(
    _model(net=_sequential(num_partitions=4)), 'interleaved_1f1b'
  )
  device_count.check([found], 2, '')


@pytest.mark.parametrize('schedule', ['gpipe', '1f1b'])
def test_these_schedules_have_one_cell_on_a_device(schedule):
  assert schedule in schedules.SCHEDULE_NAMES
  with pytest.raises(user_error.UserError):
    device_count.check(_fixed(schedule), 3, '')
