# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""From the Params of a GPipeSequentialLayer to its cells, building nothing.

```
  Params --flatten--> layers --costing--> costs --partition--> cells
```
"""

import dataclasses
import hashlib
import math
import numbers
import pickle
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, TypeAlias

import lingvo.compat as tf

from lingvo_gpipe.costing import layer_profile, measured_costs, weights
from lingvo_gpipe.cutting import units
from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.cut_table import CutTable
from lingvo_gpipe.cutting.partitioner import (
  Partition,
  PartitionError,
  PipelineSpec,
  partition,
)
from lingvo_gpipe.cutting.skips import Skip
from lingvo_gpipe.engine.tensors import num_bytes
from lingvo_gpipe.pipeline import flat_layers, param_values, trained_variables
from lingvo_gpipe.pipeline.mini_batch import leaf_names, matches
from lingvo_gpipe.pipeline.trained_variables import TrainedVariables
from lingvo_gpipe.schedules import cells_per_device, place
from lingvo_gpipe.schedules.registry import fits

BALANCES = ('flops', 'params', 'measured')

# What layers cost, and the values that skip layers.
_Counted: TypeAlias = tuple[list[LayerCost], tuple[Skip, ...]]


@dataclasses.dataclass(frozen=True)
class PipelinePlan:
  """How a pipeline is cut; costs have a `basis`: of BALANCES, or 'given'."""

  layers: tuple[flat_layers.FlatLayer, ...]
  partition: Partition
  basis: str
  splits_given: bool

  def cell_params(self) -> list[Any]:
    """Params of the K cells, named cell_0, cell_1, ..."""
    return [
      flat_layers.cell_params(
        f'cell_{cell.index}', self.layers[cell.start : cell.end]
      )
      for cell in self.partition.cells
    ]

  def table(self, devices: Sequence[str] | None = None) -> CutTable:
    """The plan as a table; devices are numbered if they have no names."""
    if devices is None:
      devices = [str(cell.device) for cell in self.partition.cells]
    return CutTable(self.partition, self.basis, devices, self.splits_given)


def make_plan(
  params: Any, num_devices: int, trained: TrainedVariables | None = None
) -> PipelinePlan:
  """Cuts a model for the devices of a model split; `params` are its Params.

  By default `trained` is what the Params' own filters find, which see names
  that begin with the pipeline's. PartitionError if there are too few layers,
  wrong splits, or too little device_memory; ValueError if a Param is unusable.
  """
  splits = splits_of(params)
  layers, costs, spec, basis = cost_layers(params, num_devices, trained)
  if params.num_partitions > len(layers):
    raise PartitionError(
      f'{params.name}.num_partitions is {params.num_partitions}, but '
      f'{params.name}.sub has {len(layers)} layers, of which each cell needs '
      f'at least one: use {len(layers)} or fewer.'
    )
  try:
    cells = partition(costs, spec, splits or None)
  except PartitionError as error:
    raise PartitionError(f'{params.name}: {error}') from error
  return PipelinePlan(tuple(layers), cells, basis, bool(splits))


def cost_layers(
  params: Any, num_devices: int, trained: TrainedVariables | None = None
) -> tuple[list[flat_layers.FlatLayer], list[LayerCost], PipelineSpec, str]:
  """Layers, their costs, what `make_plan` cuts them for, and `basis`."""
  param_values.of_schedule(params)
  for name in ('num_partitions', 'cells_per_device', 'optimizer_slots'):
    param_values.whole_number(params, name, 0)
  param_values.text(params, 'costs_file', or_none=True)
  layers = flat_layers.flatten(params.sub, params)
  balance = params.balance
  given = isinstance(balance, list | tuple)
  _check_balance(params, len(layers))
  shapes = _shapes_of(params, 'input_shapes')
  basis = 'flops' if given else balance
  if shapes is None:
    if basis == 'measured':
      raise ValueError(
        f"{params.name}.balance is 'measured', which needs input_shapes: the "
        'shapes and dtypes of one micro-batch.'
      )
    if balance == 'flops':
      tf.logging.info(
        '%s: cut by numbers of parameters; set input_shapes to cut by FLOPs.',
        params.name,
      )
    basis = 'params'
  trained = trained or trained_variables.of_params(params)
  costs, skips = _model_costs(params, layers, basis, shapes, trained)
  if given:
    basis, costs = 'given', list(map(_with_time, costs, balance))
  spec = _spec(params, num_devices, num_bytes(shapes), skips)
  return layers, costs, spec, basis


def _shapes_of(params: Any, name: str) -> Any:
  value = params.Get(name)
  if value is None or (isinstance(value, str) and not value.strip()):
    return None
  return param_values.specs(value, f'{params.name}.{name}')


def _check_balance(params: Any, num_layers: int) -> None:
  balance = params.balance
  if isinstance(balance, list | tuple):
    is_right = len(balance) == num_layers and all(
      isinstance(x, int | float) and math.isfinite(x) and x >= 0
      for x in balance
    )
  else:
    is_right = balance in BALANCES
  if not is_right:
    raise ValueError(
      f'{params.name}.balance is {balance!r}; it must be one of {BALANCES}, or '
      f'a list of {num_layers} numbers of 0 or more, one for each layer.'
    )


def splits_of(params: Any) -> tuple[int, ...]:
  """The first layers of cells that a user gives in `splits`; () for none."""
  splits = params.splits or []
  if not isinstance(splits, list | tuple) or not all(
    isinstance(n, numbers.Integral) and not isinstance(n, bool) for n in splits
  ):
    start = f'{params.name}: ' if params.name else ''
    raise PartitionError(
      f'{start}splits is {splits!r}; it must be a list of whole '
      'numbers, the first layer of each cell but the first: [3, 5] makes cells '
      'of layers 0-2, 3-4 and 5 on.'
    )
  return tuple(int(n) for n in splits)


def _spec(
  params: Any, num_devices: int, input_bytes: int, skips: tuple[Skip, ...]
) -> PipelineSpec:
  splits, schedule = splits_of(params), params.schedule
  per_device = params.cells_per_device or cells_per_device(schedule)
  num_cells = params.num_partitions or (
    len(splits) + 1 if splits else num_devices * per_device
  )
  places = place(schedule, num_cells, num_devices)
  if not fits(schedule, places):
    # As when a model is evaluated on one device; training is refused later.
    schedule = '1f1b'
  num_devices = max(places) + 1
  per_device, rest = divmod(max(num_cells, num_devices), num_devices)
  if rest and device_memory(params) is not None:
    raise ValueError(
      f'{params.name}: num_partitions is {num_cells}, not a multiple of the '
      f'{num_devices} devices of a model split, but device_memory is set. Use '
      'a multiple, or leave device_memory unset.'
    )
  if rest or num_cells < num_devices:
    per_device = 1
  num_micro_batches = int(params.num_micro_batches)
  if params.micro_batch_size is not None and num_micro_batches == 1:
    # Only their size is known: the four per cell that GPipe advises.
    num_micro_batches = 4 * num_cells
  recompute, kept = params.recompute, frozenset[str]()
  if not isinstance(recompute, str):
    recompute, kept = 'always', frozenset(recompute)
  return PipelineSpec(
    num_devices=num_cells // per_device,
    cells_per_device=per_device,
    num_micro_batches=num_micro_batches,
    micro_batch_size=_micro_batch_size(params),
    schedule=schedule,
    recompute=recompute,
    kept=kept,
    input_bytes=input_bytes,
    device_memory=device_memory(params),
    skips=skips,
  )


def _micro_batch_size(params: Any) -> int | None:
  if params.micro_batch_size is not None:
    return int(params.micro_batch_size)
  inputs = _shapes_of(params, 'input_shapes')
  specs = tf.nest.flatten(inputs)
  if params.shared_inputs:
    names = leaf_names(inputs, 'inputs')
    specs = [
      spec
      for name, spec in zip(names, specs, strict=True)
      if not any(matches(name, entry) for entry in params.shared_inputs)
    ]
  for spec in specs:
    if spec is not None and spec.shape.rank > params.batch_dim:
      return int(spec.shape[params.batch_dim]) or None
  return None


def device_memory(params: Any) -> int | None:
  """The limit in bytes, from a number or a text such as '8GiB', if any."""
  value = params.device_memory
  if not value:
    return None
  what = f'{params.name}.device_memory is {value!r}'
  try:
    num_bytes = units.parse_bytes(value) if isinstance(value, str) else value
    if not isinstance(num_bytes, int | float) or num_bytes < 0:
      raise ValueError
  except ValueError as error:
    raise ValueError(
      f"{what}; use bytes, or text such as '8GiB' or '500MB'. 0 is no limit."
    ) from error
  if num_bytes and not params.input_shapes:
    raise ValueError(
      f'{what}, but without input_shapes the size of activations is not known. '
      'Set input_shapes, or leave device_memory unset.'
    )
  return int(num_bytes) or None


def _with_time(cost: LayerCost, time: float) -> LayerCost:
  """The cost with a user's time, two thirds of it backward, as of a product."""
  forward = Fraction(time) / 3
  backward = 2 * forward if cost.has_backward else 0
  return dataclasses.replace(cost, forward=forward, backward=backward)


def _model_costs(
  params: Any,
  layers: Sequence[flat_layers.FlatLayer],
  basis: str,
  shapes: Any,
  trained: TrainedVariables,
) -> _Counted:
  """The layers' costs, the loss's added to the last one's."""
  subs = [layer_profile.cost_params(layer.params) for layer in layers]
  names = [layer.name for layer in layers]
  named = _shapes_of(params, 'side_input_shapes') or {}
  if not isinstance(named, Mapping):
    raise ValueError(
      f'{params.name}.side_input_shapes is {params.side_input_shapes!r}; each '
      "needs its name, as in 'paddings=float32[16,32]'."
    )
  loss = params.loss_tpl
  if loss is not None and basis != 'params':
    targets = _shapes_of(params, 'target_shapes')
    if targets is None:
      loss = None
      tf.logging.info(
        '%s: the cost of the loss is not counted; set target_shapes for that.',
        params.name,
      )
    else:
      named = {**named, layer_profile.TARGETS: targets}
      loss = layer_profile.loss_layer(loss)
  if loss is not None:
    names.append(loss.name or 'loss')
    subs.append(loss)
  costs, skips = _remembered(params, basis, subs, names, shapes, named, trained)
  if loss is not None:
    costs = [*costs[:-2], layer_profile.with_loss(*costs[-2:])]
  return costs, skips


# What this process has counted, by model.
_known: dict[bytes, _Counted] = {}


def _remembered(params: Any, basis: str, *args: Any) -> _Counted:
  """`_count`, once a process: jobs that share it must not differ in times."""
  p = params
  what = basis, p.optimizer_slots, p.costs_file, p.before_tpl, args
  try:
    key = hashlib.sha256(pickle.dumps(what)).digest()
  except (AttributeError, TypeError, pickle.PicklingError):
    # A class within a function, say.
    return _count(params, basis, *args)
  if key not in _known:
    _known[key] = _count(params, basis, *args)
  return _known[key]


def _count(
  params: Any,
  basis: str,
  subs: Sequence[Any],
  names: Sequence[str],
  shapes: Any,
  named: Mapping[str, Any],
  trained: TrainedVariables,
) -> _Counted:
  is_trained = trained.in_pipeline if trained.filters else None
  inputs_trained = is_trained is not None and any(
    weights.has_trained(layer, is_trained) for layer in params.before_tpl
  )
  training = weights.Training(
    params.optimizer_slots, is_trained, inputs_trained
  )
  if basis == 'params':
    return weights.parameter_costs(subs, names, training), ()
  profiles = layer_profile.profile_layers(subs, names, shapes, training, named)
  costs = [profile.cost for profile in profiles]
  if basis == 'measured':
    costs = measured_costs.measure_profiles(profiles, params.costs_file or None)
  return costs, tuple(layer_profile.skips(profiles))
