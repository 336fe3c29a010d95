# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The layer that runs cells on several devices as a pipeline."""

from collections.abc import Mapping, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, py_utils

from lingvo_gpipe import cluster, schedules
from lingvo_gpipe.engine.tensors import on_device
from lingvo_gpipe.feature_extraction_layer import PartitionSequentialLayers
from lingvo_gpipe.pipeline import (
  flat_layers,
  named_values,
  param_values,
  plain_run,
  trained_variables,
)
from lingvo_gpipe.pipeline import run as pipeline_run
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
  PlacedKey,
  descendants,
  to_tuple,
)
from lingvo_gpipe.pipeline.plan import Order, Traces
from lingvo_gpipe.schedules.task import EmittedSchedule

__all__ = [
  'FeatureExtractionLayer',
  'PartitionSequentialLayers',
  'PipeliningLayer',
]


class PipeliningLayer(base_layer.BaseLayer):
  """Cells on different devices, through which micro-batches flow.

  Cell k, with its weights and their gradients, is on
  `cluster.WorkerDeviceInModelSplit(k)`. Variables are named by the layers in
  the cells, so checkpoints do not depend on the cut, as long as no two cells
  have layers of the same name.

  The loss may be outside: `FProp` returns the last cell's outputs for the whole
  mini-batch. Or it may be inside, in the last cell, as `loss_tpl`:
  `ComputeLoss` then runs each backward task as early as `schedule` has it.

  Attributes:
    schedule: The Schedule of the last FProp or ComputeLoss; None before.
    constant_loss_weight: The weight of a micro-batch's loss, if it is one
      number for all of several, and not computed from each as it should be.
    layer_numbers: Each layer's number in the pipeline, by path; see `seeds`.
    recompute: Which micro-batches are recomputed, one of RECOMPUTE_POLICIES;
      or the names of the layers that are not.
    emitted: What each call so far put into a graph, in order.
  """

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define(
      'before_tpl',
      [],
      'Params of layers that run before the pipeline, in sequence, on the '
      'first device and on the whole mini-batch.',
    )
    p.Define(
      'cell_tpl',
      [],
      'Params of the K cells: FeatureExtractionLayers, or any layers. Each is '
      'called with the outputs of the one before; a tuple becomes several '
      'arguments.',
    )
    p.Define(
      'num_micro_batches',
      1,
      'M. Sizes of micro-batches differ by one at most. A batch of less than M '
      'makes micro-batches of one example each; if its size is known only when '
      'a step runs, training refuses it.',
    )
    p.Define(
      'micro_batch_size',
      None,
      'Examples in a micro-batch; the last one may have fewer. It determines M '
      'if num_micro_batches is 1, and must agree with it otherwise.',
    )
    p.Define('batch_dim', 0, 'The dimension that counts the examples.')
    p.Define(
      'shared_inputs',
      [],
      'Names of inputs, targets and side inputs, or of nests of them, that '
      "belong to all examples alike: ['inputs[1]', 'targets.class_weights', "
      "'side_inputs.mask']. All others are split along batch_dim.",
    )
    p.Define('state_dtype', None, 'Ignored: tensors keep their own dtypes.')
    p.Define('nested_map_fprop', False, 'Whether cells take one NestedMap.')
    p.Define(
      'schedule',
      'gpipe',
      f'The order of the tasks, one of {schedules.SCHEDULE_NAMES}. All but '
      'gpipe need loss_tpl. zb_v, v_half, v_min and interleaved_1f1b have two '
      'cells or more on each device. "auto" looks for the best order. '
      '"file:PATH" has that of a file. schedules.register_schedule adds names.',
    )
    p.Define(
      'recompute',
      'always',
      'For which micro-batches the forward pass is recomputed, to save memory: '
      f'one of {schedules.RECOMPUTE_POLICIES}; or the names of the layers '
      'whose activations are kept, where all others are recomputed; or "fit", '
      'in a GPipeSequentialLayer: keep as many as device_memory allows.',
    )
    p.Define(
      'loss_tpl',
      None,
      'Params of a layer in the last cell, whose FProp(theta, outputs, targets)'
      ' returns metrics {name: (value, weight)} with a "loss".',
    )
    p.Define(
      'side_inputs',
      [],
      'Names of the values that FProp and ComputeLoss take in addition to the '
      'inputs, for the layers that take them; see named_layers.',
    )
    p.Define(
      'bprop_variable_filter',
      None,
      'A regular expression: only variables whose names match it (re.search) '
      'are trained. If this and bprop_variable_exclusion are unset, the '
      'filters of the learners of the task are used.',
    )
    p.Define(
      'bprop_variable_exclusion',
      None,
      'A regular expression: variables whose names match it are not trained.',
    )
    return p

  def __init__(self, params: Any):
    param_values.check_pipeline(params)
    cluster.prepare_devices()
    super().__init__(params)
    p = self.params
    self.trained_variables = trained_variables.find(self)
    p.cell_tpl = self._CellParams()
    param_values.check_cells(p)
    self.cell_wiring = self._CheckedWiring()
    self.cell_devices = self._CellDevices()
    for layer in p.before_tpl:
      self._CreatePlacedChild(layer.name, layer, self.cell_devices[0])
    cells = flat_layers.without_cell_names(p.cell_tpl, self.path)
    for device, cell in zip(self.cell_devices, cells, strict=True):
      self._CreatePlacedChild(cell.name, cell, device)
    if p.loss_tpl is not None:
      self._CreatePlacedChild('loss', p.loss_tpl, self.cell_devices[-1])
    trained_variables.check_learners(self, self.trained_variables)
    # Layers may also hand values to each other within one of a cell.
    declared = [named_values.declared(d.params) for d in descendants(self)]
    self.has_tied_weights = any(d.weights_of for d in declared)
    self.has_named_values = bool(p.side_inputs) or any(
      d.puts or d.takes for d in declared
    )
    self.layer_numbers = self._NumberLayers()
    self.recompute = self._Recompute()
    self.kept_paths = self._KeptPaths()
    self.schedule: schedules.Schedule | None = None
    self.emitted: list[EmittedSchedule] = []
    self.eager_traces: dict[Any, Traces] = {}
    self.known_orders: dict[Any, Order] = {}
    self.constant_loss_weight: float | None = None

  def _CellParams(self) -> list[Any]:
    return self.params.cell_tpl

  def _CheckedWiring(self) -> list[named_values.CellWiring]:
    p = self.params
    cells = [named_values.layers_of_cell(cell) for cell in p.cell_tpl]
    if p.loss_tpl is not None:
      cells[-1].append(('loss', p.loss_tpl))
    named_values.check(
      [layer for layers in cells for layer in layers],
      p.side_inputs,
      weights_only=[(layer.name, layer) for layer in p.before_tpl],
      what=p.name,
    )
    return named_values.wire(cells, p.side_inputs)

  def _CellDevices(self) -> list[str]:
    p = self.params
    current = self.cluster
    if py_utils.use_tpu() and len(p.cell_tpl) > current.num_devices_per_split:
      raise ValueError(
        f'{p.name}.cell_tpl has {len(p.cell_tpl)} cells, but a model split has '
        f'{current.num_devices_per_split} TPU cores. Use fewer cells, or '
        'raise devices_per_split (--worker_split_size).'
      )
    places = schedules.place(
      p.schedule, len(p.cell_tpl), current.num_devices_per_split
    )
    return [current.WorkerDeviceInModelSplit(i) for i in places]

  def OrderProblem(
    self,
    cell_devices: Sequence[int],
    num_micro_batches: int,
    first_backward: int,
  ) -> schedules.OrderProblem | None:
    """What the schedule 'auto' orders the tasks by; None for equal costs."""
    del cell_devices, num_micro_batches, first_backward
    return None

  def _Recompute(self) -> str | Sequence[str]:
    p = self.params
    if p.recompute == schedules.FIT:
      raise ValueError(
        f"{p.name}.recompute is 'fit', which needs the cost of each layer: use "
        'a GPipeSequentialLayer, or give the names of the layers to keep.'
      )
    return p.recompute

  def _KeptPaths(self) -> frozenset[str]:
    if isinstance(self.recompute, str):
      return frozenset()
    by_name = {}
    for path in self.layer_numbers:
      cell, *inside = path.removeprefix(f'{self.path}.').split('.')
      by_name['/'.join(inside) or cell] = path
    unknown = sorted(set(self.recompute) - set(by_name))
    if unknown:
      raise ValueError(
        f'{self.path}.recompute names {unknown}, but the pipeline has no such '
        f'layers. Its layers are {", ".join(by_name)}.'
      )
    return frozenset(by_name[name] for name in self.recompute)

  @property
  def recompute_policy(self) -> str:
    return self.recompute if isinstance(self.recompute, str) else 'always'

  def _CreatePlacedChild(self, name: str, params: Any, device: str) -> None:
    with tf.device(device):
      self.CreateChild(PlacedKey(name, len(self.children)), params)

  def _NumberLayers(self) -> dict[str, int]:
    paths: list[str] = []
    for cell in self.cells:
      is_run = isinstance(cell, FeatureExtractionLayer)
      paths += [layer.path for layer in (cell.leaves if is_run else [cell])]
    if self.params.loss_tpl is not None:
      paths.append(self.loss.path)
    return {path: number for number, path in enumerate(paths)}

  @property
  def cells(self) -> list[base_layer.BaseLayer]:
    return [self.children[cell.name] for cell in self.params.cell_tpl]

  def device_of(self, child: str) -> str:
    names = [cell.name for cell in self.params.cell_tpl]
    index = names.index(child) if child in names else -(child == 'loss')
    return self.cell_devices[index]

  def _InternalGetTheta(self) -> Any:
    # Casts of weights to fprop_dtype belong on the weights' own device.
    theta = super()._InternalGetTheta()
    for name, child in self.children.items():
      with on_device(self.device_of(name)):
        theta[name] = child.theta
    return theta

  def AddGlobalVN(self, theta: Any) -> Any:
    # So does the noise that is added to them.
    if self.do_eval:
      return theta
    for name, child in self.children.items():
      with on_device(self.device_of(name)):
        theta[name] = child.AddGlobalVN(theta[name])
    return theta

  def FProp(self, theta: Any, *args: Any, side_inputs: Any = None) -> Any:
    """Runs the pipeline, for a loss outside of it, in the order of 'gpipe'.

    Args:
      theta: A NestedMap of weights.
      *args: Inputs of the first layer: tensors, values that can become tensors
        (arrays, numbers, lists of numbers), None, or nests of these. Each has
        the mini-batch's size in dimension batch_dim, except for those that
        shared_inputs names.
      side_inputs: A value for each name in params.side_inputs: a nest of
        tensors, split like the inputs, or None. It has a gradient only if it
        depends on a trained weight.

    Returns the last cell's outputs for the mini-batch. Raises ValueError if
    something cannot be split, or an output that depends on the examples does
    not have one value for each.
    """
    return self._Start(
      theta, args, None, side_inputs, with_loss=False
    ).outputs()

  def ComputeLoss(
    self, theta: Any, inputs: Any, targets: Any, side_inputs: Any = None
  ) -> Any:
    """Runs the pipeline with the loss in the last cell.

    The mini-batch's loss is the mean over micro-batches, weighted by the loss's
    weight, which counts as a constant. For each other metric whose gradient is
    asked for the pipeline runs once more in each step.

    Auxiliary losses of layers (py_utils.AuxLossContext) are part of the loss,
    and the metric 'aux_loss'. No surrounding AuxLossContext gets them.

    Args:
      theta, side_inputs: As for `FProp`.
      inputs: Inputs of the first layer: a tensor, a tuple of arguments, or a
        NestedMap, as for `FProp`.
      targets: What the loss layer's FProp takes after the outputs: any nest of
        tensors, like the inputs, or None. A micro-batch with weight 0 adds
        nothing to the loss and its gradient, even if they are NaN.

    Returns Lingvo metrics, a NestedMap {name: (value, weight)} of float32
    scalars: weighted means of the micro-batches' values, and sums of weights.
    Raises ValueError if loss_tpl is not set, or something cannot be split.
    """
    if self.params.loss_tpl is None:
      raise ValueError(
        f'{self.params.name}.ComputeLoss needs loss_tpl: Params of a layer '
        'whose FProp(theta, outputs, targets) returns metrics with a "loss".'
      )
    args = to_tuple(inputs)
    run = self._Start(theta, args, targets, side_inputs, with_loss=True)
    self.constant_loss_weight = run.constant_loss_weight
    return run.metrics()

  def _Start(
    self, theta: Any, args: Any, targets: Any, side_inputs: Any, with_loss: bool
  ) -> pipeline_run.PipelineRun | plain_run.PlainRun:
    p = self.params
    if not isinstance(theta, py_utils.NestedMap):
      raise ValueError(
        f'{self.path}: theta, the first argument of FProp and ComputeLoss, is '
        f'a {type(theta).__name__}; it must be the NestedMap of the weights, '
        'layer.theta.'
      )
    sides = {} if side_inputs is None else side_inputs
    if not isinstance(sides, Mapping) or set(sides) != set(p.side_inputs):
      is_dict = isinstance(sides, Mapping)
      given = sorted(sides) if is_dict else f'a {type(sides).__name__}'
      raise ValueError(
        f'{self.path} is given side_inputs {given}, but {p.name}.side_inputs '
        f'names {sorted(p.side_inputs)}; give a dict with a value, or None, '
        'for each.'
      )
    with on_device(self.cell_devices[0]):
      for layer in p.before_tpl:
        outputs = self.children[layer.name].FProp(theta[layer.name], *args)
        args = to_tuple(outputs)
    start = plain_run.start if plain_run.OPEN.stack else pipeline_run.start
    run = start(self, theta, args, targets, sides, with_loss=with_loss)
    if isinstance(run, pipeline_run.PipelineRun):
      self.schedule = run.plan.order.schedule
      if not tf.executing_eagerly():
        self.emitted.append(run.engine.emitted)
    return run
