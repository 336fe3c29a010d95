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
from lingvo_gpipe.pipeline.plan import Traces
from lingvo_gpipe.schedules import (
  FIT,
  RECOMPUTE_POLICIES,
  SCHEDULE_NAMES,
  Schedule,
  place,
)
from lingvo_gpipe.schedules.emitted import EmittedSchedule

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
      number for all. None if it is computed from the micro-batch, as it should
      be, if ComputeLoss has not been called, or if there was only one
      micro-batch.
    trained_variables: Which of its variables are trained.
    has_named_values: Whether a layer in it puts or takes values.
    has_tied_weights: Whether a layer uses the weights of another one.
    recompute: Which micro-batches are recomputed, one of RECOMPUTE_POLICIES;
      or the names of the layers that are not.
    kept_paths: The paths of those layers.
    eager_traces: What eager calls of it have traced.
  """

  @classmethod
  def Params(cls):
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
      'M: the number of micro-batches in a mini-batch. If it does not divide '
      'the batch, their sizes differ by one. If the batch is smaller than M, '
      'and its size is known when the graph is built, there are fewer '
      'micro-batches, of one example each. If its size is known only when a '
      'step runs, there are M: in evaluation some may be empty, and training '
      'needs M examples or more.',
    )
    p.Define(
      'micro_batch_size',
      None,
      'Examples in a micro-batch; the last one may have fewer. If '
      'num_micro_batches is 1, the size determines M; otherwise the two must '
      'agree with the batch.',
    )
    p.Define('batch_dim', 0, 'The dimension that counts the examples.')
    p.Define(
      'shared_inputs',
      [],
      'Names of inputs, targets and side inputs that belong to all examples '
      "alike, such as a causal mask: ['inputs[1]', 'targets.class_weights', "
      "'side_inputs.mask']. Every micro-batch gets all of each; a name stands "
      'for the whole nest below it. All others are split along batch_dim.',
    )
    p.Define(
      'state_dtype',
      None,
      'Accepted for params written for lingvo.core.gpipe, and ignored: every '
      'tensor keeps its own dtype from cell to cell.',
    )
    p.Define(
      'nested_map_fprop',
      False,
      'Whether cells take and return one NestedMap each.',
    )
    p.Define(
      'schedule',
      'gpipe',
      f'The order of the tasks, one of {SCHEDULE_NAMES}. All but gpipe need '
      'loss_tpl. zb_v, v_half, v_min and interleaved_1f1b have two cells or '
      'more on each device. "auto" looks for the best order. "file:PATH" has '
      'the order of a file. schedules.register_schedule adds names.',
    )
    p.Define(
      'recompute',
      'always',
      'For which micro-batches the forward pass is recomputed in the backward '
      f'pass, to save memory: one of {RECOMPUTE_POLICIES}. Under 1F1B the last '
      'cell recomputes nothing, because that would save no memory. Or a list '
      'with the names of the layers whose activations are kept, where all '
      'others are recomputed; or, in a GPipeSequentialLayer with '
      'device_memory, "fit": as many are kept as there is memory for.',
    )
    p.Define(
      'loss_tpl',
      None,
      'Params of a layer whose FProp(theta, outputs, targets) returns metrics '
      '{name: (value, weight)} with a "loss"; it belongs to the last cell.',
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
      'are trained. For others no gradient is computed or kept; cells before '
      'the first trained variable have no backward pass. If this and '
      'bprop_variable_exclusion are unset, the filters of the learners of the '
      'task are used.',
    )
    p.Define(
      'bprop_variable_exclusion',
      None,
      'A regular expression: variables whose names match it are not trained.',
    )
    return p

  def __init__(self, params):
    param_values.check_pipeline(params)
    cluster.prepare_devices()
    super().__init__(params)
    p = self.params
    self.trained_variables = trained_variables.find(self)
    p.cell_tpl = self._CellParams()
    param_values.check_cells(p)
    layers = _LayersOfCells(p)
    self._wiring = _CheckedWiring(p, layers)
    self.has_tied_weights = any(
      named_values.declared(layer).weights_of
      for of_cell in layers
      for _, layer in of_cell
    )
    self._devices = self._CellDevices()
    for layer in p.before_tpl:
      self._CreatePlacedChild(layer.name, layer, self._devices[0])
    shared = self._SharedSubNames()
    for device, cell in zip(self._devices, p.cell_tpl, strict=True):
      self._CreatePlacedChild(cell.name, _WithoutScope(cell, shared), device)
    if p.loss_tpl is not None:
      self._CreatePlacedChild('loss', p.loss_tpl, self._devices[-1])
    trained_variables.check_learners(self, self.trained_variables)
    # Layers may also hand values to each other within one of a cell.
    declared = [named_values.declared(d.params) for d in descendants(self)]
    self.has_named_values = bool(p.side_inputs) or any(
      d.puts or d.takes for d in declared
    )
    self._numbers = self._NumberLayers()
    self.recompute = self._Recompute()
    self.kept_paths = self._KeptPaths()
    self.schedule: Schedule | None = None
    self._emitted: list[EmittedSchedule] = []
    self.eager_traces: dict[Any, Traces] = {}
    self.constant_loss_weight: float | None = None

  # -- Construction.

  def _CellParams(self) -> list[Any]:
    """Params of the K cells."""
    return self.params.cell_tpl

  def _CellDevices(self) -> list[str]:
    """The device of each cell."""
    p = self.params
    current = self.cluster
    if py_utils.use_tpu() and len(p.cell_tpl) > current.num_devices_per_split:
      raise ValueError(
        f'{p.name}.cell_tpl has {len(p.cell_tpl)} cells, but a model split has '
        f'{current.num_devices_per_split} TPU cores. Use fewer cells, or '
        'raise devices_per_split (--worker_split_size).'
      )
    places = place(p.schedule, len(p.cell_tpl), current.num_devices_per_split)
    return [current.WorkerDeviceInModelSplit(i) for i in places]

  def OrderProblem(
    self,
    cell_devices: Sequence[int],
    num_micro_batches: int,
    first_backward: int,
  ) -> schedules.OrderProblem | None:
    """What the schedule 'auto' orders the tasks by; None for equal costs.

    Args:
      cell_devices: The number of each cell's device.
      num_micro_batches: M.
      first_backward: The first cell with backward tasks.
    """
    del cell_devices, num_micro_batches, first_backward
    return None

  def _Recompute(self) -> str | Sequence[str]:
    """The Param `recompute`, but for 'fit'."""
    p = self.params
    if p.recompute == FIT:
      raise ValueError(
        f"{p.name}.recompute is '{FIT}', which needs the cost of each layer. "
        'Use a GPipeSequentialLayer, which finds it, or give the names of the '
        'layers whose activations are to be kept.'
      )
    return p.recompute

  def _KeptPaths(self) -> frozenset[str]:
    """Finds the layers that `recompute` names."""
    if isinstance(self.recompute, str):
      return frozenset()
    by_name = {self._LayerName(path): path for path in self._numbers}
    unknown = sorted(set(self.recompute) - set(by_name))
    if unknown:
      raise ValueError(
        f'{self.path}.recompute names {unknown}, but the pipeline has no such '
        f'layers. Its layers are {", ".join(by_name)}.'
      )
    return frozenset(by_name[name] for name in self.recompute)

  def _LayerName(self, path: str) -> str:
    """A layer's name as its variables have it, without the pipeline's own."""
    inside = path.removeprefix(f'{self.path}.').split('.')
    return '/'.join(inside[1:] or inside)

  @property
  def recompute_policy(self) -> str:
    """Which micro-batches are recomputed, if only in part."""
    return self.recompute if isinstance(self.recompute, str) else 'always'

  def _CreatePlacedChild(self, name: str, params: Any, device: str) -> None:
    with tf.device(device):
      self.CreateChild(PlacedKey(name, len(self.children)), params)

  def _SharedSubNames(self) -> set[str]:
    """Names that layers of more than one cell have."""
    seen: set[str] = set()
    shared: set[str] = set()
    for cell in self.params.cell_tpl:
      names = set(_LeafNames(cell))
      shared |= seen & names
      seen |= names
    if shared:
      tf.logging.warning(
        '%s: layers of different cells have the same names, %s. So the names '
        'of their variables contain the cell, and a checkpoint fits only the '
        'same cut. Give each layer a name of its own.',
        self.path,
        sorted(shared),
      )
    return shared

  def _NumberLayers(self) -> dict[str, int]:
    """Numbers the layers whose random seeds are to be their own, by path."""
    paths: list[str] = []
    for cell in self.cells:
      if isinstance(cell, FeatureExtractionLayer):
        paths += [layer.path for layer in cell.leaves]
      else:
        paths.append(cell.path)
    if self.params.loss_tpl is not None:
      paths.append(self.loss.path)
    return {path: number for number, path in enumerate(paths)}

  @property
  def cells(self) -> list[base_layer.BaseLayer]:
    """The K cells, in order."""
    return [self.children[cell.name] for cell in self.params.cell_tpl]

  @property
  def cell_devices(self) -> list[str]:
    """The device of each cell."""
    return list(self._devices)

  @property
  def cell_wiring(self) -> list[named_values.CellWiring]:
    """Which named values each cell passes on and takes."""
    return list(self._wiring)

  def device_of(self, child: str) -> str:
    """The device of one of the layer's children, by its name."""
    for device, cell in zip(self._devices, self.params.cell_tpl, strict=True):
      if cell.name == child:
        return device
    return self._devices[-1 if child == 'loss' else 0]

  @property
  def layer_numbers(self) -> dict[str, int]:
    """Each layer's number in the pipeline, by path; see `seeds`."""
    return dict(self._numbers)

  @property
  def emitted(self) -> list[EmittedSchedule]:
    """What each FProp or ComputeLoss so far put into a graph, in order."""
    return list(self._emitted)

  def _InternalGetTheta(self):
    # Casts of weights to fprop_dtype belong on the weights' own device.
    theta = super()._InternalGetTheta()
    for name, child in self.children.items():
      with on_device(self.device_of(name)):
        theta[name] = child.theta
    return theta

  def AddGlobalVN(self, theta):
    # So does the noise that is added to them.
    if self.do_eval:
      return theta
    for name, child in self.children.items():
      with on_device(self.device_of(name)):
        theta[name] = child.AddGlobalVN(theta[name])
    return theta

  # -- Running.

  def FProp(self, theta, *args, side_inputs=None):
    """Runs the pipeline, for a loss outside of it.

    Evaluation runs forward only. In training, the backward pass starts when
    all outputs are available, so the order is that of 'gpipe'.

    Args:
      theta: A NestedMap of weights.
      *args: Inputs of the first layer: tensors, values that can become tensors
        (arrays, numbers, lists of numbers), None, or nests of these; one
        NestedMap if nested_map_fprop. Each has the mini-batch's size in
        dimension batch_dim, except for those that shared_inputs names.
      side_inputs: A value for each name in params.side_inputs: a nest of
        tensors, split like the inputs, or None. Each goes directly to the cells
        with layers that take it. It has a gradient if it depends on a trained
        weight; asking for the gradient of data is an error.

    Returns:
      The last cell's outputs for the mini-batch.

    Raises:
      ValueError: Something cannot be split, or the last cell's outputs cannot
        be joined, because they depend on the examples but do not have one value
        for each.
    """
    run = self._Start(theta, args, None, side_inputs, with_loss=False)
    return run.outputs()

  def ComputeLoss(self, theta, inputs, targets, side_inputs=None):
    """Runs the pipeline with the loss in the last cell.

    The gradient of metrics['loss'] is that of the mini-batch's loss: the mean
    over micro-batches, weighted by the loss's weight, which counts as a
    constant. Other metrics also have gradients. But the backward tasks are
    those of the loss, so for each other metric whose gradient is needed, for
    instance by a learner that names it, the pipeline runs once more in each
    step.

    Auxiliary losses that layers add (py_utils.AuxLossContext) are part of the
    loss, weighted like the micro-batches' losses, and are also the metric
    'aux_loss'. They are not passed on to a surrounding AuxLossContext.

    Args:
      theta: A NestedMap of weights.
      inputs: Inputs of the first layer: a tensor, a tuple of arguments, or a
        NestedMap, as for `FProp`.
      targets: What the loss layer's FProp takes after the outputs: any nest of
        tensors, like the inputs, or None. It goes directly to the last cell. A
        micro-batch with weight 0 adds nothing to the loss and its gradient,
        even if the layer divides by its weight.
      side_inputs: As for `FProp`.

    Returns:
      Lingvo metrics, a NestedMap {name: (value, weight)} of float32 scalars:
      each value is the weighted mean of the micro-batches' values, and each
      weight is the sum of their weights.

    Raises:
      ValueError: loss_tpl is not set, or something cannot be split.
    """
    if self.params.loss_tpl is None:
      raise ValueError(
        f'{self.params.name}.ComputeLoss needs loss_tpl: Params of a layer '
        'whose FProp(theta, outputs, targets) returns metrics with a "loss".'
      )
    run = self._Start(
      theta, to_tuple(inputs), targets, side_inputs, with_loss=True
    )
    self.constant_loss_weight = run.constant_loss_weight
    return run.metrics()

  def _Start(
    self, theta, args, targets, side_inputs, *, with_loss: bool
  ) -> pipeline_run.PipelineRun | plain_run.PlainRun:
    p = self.params
    if not isinstance(theta, py_utils.NestedMap):
      raise ValueError(
        f'{self.path}: theta, the first argument of FProp and ComputeLoss, is '
        f'a {type(theta).__name__}; it must be the NestedMap of the weights, '
        'layer.theta.'
      )
    side_inputs = {} if side_inputs is None else side_inputs
    if not isinstance(side_inputs, Mapping):
      raise ValueError(
        f'{self.path}: side_inputs is a {type(side_inputs).__name__}; it must '
        f'be a dict of values by name, for {p.name}.side_inputs, '
        f'{p.side_inputs}.'
      )
    side_inputs = dict(side_inputs)
    if set(side_inputs) != set(p.side_inputs):
      raise ValueError(
        f'{self.path} is given side_inputs {sorted(side_inputs)}, but '
        f'{p.name}.side_inputs names {sorted(p.side_inputs)}; give each of '
        'these a value, or None.'
      )
    args = self._RunBefore(theta, args)
    if plain_run.OPEN.stack:
      return plain_run.start(
        self, theta, args, targets, side_inputs, with_loss=with_loss
      )
    run = pipeline_run.start(
      self, theta, args, targets, side_inputs, with_loss=with_loss
    )
    self.schedule = run.schedule
    if not tf.executing_eagerly():
      self._emitted.append(run.emitted)
    return run

  def _RunBefore(self, theta, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Runs the layers before the pipeline, on the first device."""
    for layer in self.params.before_tpl:
      with on_device(self._devices[0]):
        args = to_tuple(
          self.children[layer.name].FProp(theta[layer.name], *args)
        )
    return args


def _LayersOfCells(p) -> list[list[named_values.NamedParams]]:
  cells = [named_values.layers_of_cell(cell) for cell in p.cell_tpl]
  if p.loss_tpl is not None:
    cells[-1].append(('loss', p.loss_tpl))
  return cells


def _CheckedWiring(
  p, cells: list[list[named_values.NamedParams]]
) -> list[named_values.CellWiring]:
  """The cells' wiring; raises ValueError if it cannot work."""
  named_values.check(
    [layer for layers in cells for layer in layers],
    p.side_inputs,
    weights_only=[(layer.name, layer) for layer in p.before_tpl],
    what=p.name,
  )
  return named_values.wire(cells, p.side_inputs)


def _SubNames(cell) -> list[str]:
  if not issubclass(cell.cls, FeatureExtractionLayer):
    return []
  return [cell.variable_name_prefix + (sub.name or '') for sub in cell.sub]


def _LeafNames(cell) -> list[str]:
  """Names of the layers, with those of the layers they are in before them."""
  if not issubclass(cell.cls, FeatureExtractionLayer):
    return []
  names = []
  for name, sub in zip(_SubNames(cell), cell.sub, strict=True):
    if issubclass(sub.cls, FeatureExtractionLayer):
      names += [f'{name}/{inside}' for inside in _LeafNames(sub)]
    else:
      names.append(name)
  return names


def _WithoutScope(cell, shared: set[str]):
  """Params whose layers' variables are not named by the cell.

  Args:
    cell: The cell's Params.
    shared: Names that layers of several cells have; if there are any, all
      keep the cell's name in theirs.
  """
  if shared or not issubclass(cell.cls, FeatureExtractionLayer):
    return cell
  override = {name: [] for name in _SubNames(cell)}
  override.update(cell.child_variable_scope_override)
  return cell.Copy().Set(child_variable_scope_override=override)
