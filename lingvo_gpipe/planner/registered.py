# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Registered models as workloads, and families of them, without building them.

A longer model repeats layers of a short one, and a layer's costs are a
polynomial in the width D: weights and FLOPs of its convolutions and matrices
are quadratic, activations, biases and norms linear. So a family's layers are
traced in a short model at three widths, or one if the width is fixed, and no
large model ever is.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from lingvo import model_registry

from lingvo_gpipe import schedules, sequential_layer
from lingvo_gpipe.costing import model_costs, pipeline_plan
from lingvo_gpipe.costing.weights import equal_but_name
from lingvo_gpipe.cutting.cost_model import LayerCost, Number
from lingvo_gpipe.pipeline import flat_layers
from lingvo_gpipe.planner.workload import AS_LISTED, Workload
from lingvo_gpipe.training import model_lookup, pipeline_params, user_error

# So many tell a polynomial of degree two.
_NUM_WIDTHS = 3
# What of a layer's cost depends on the width.
_GROWING = (
  *('forward', 'backward', 'weight_gradient', 'parameters', 'weight_bytes'),
  *('optimizer_bytes', 'gradient_sum_bytes', 'activation_bytes'),
  *('transient_bytes', 'output_bytes'),
)


def model_class(model: str) -> Any:
  """The class of a registered model.

  Raises:
    UserError: There is no such model.
  """
  return model_registry.GetClass(model_lookup.find_model(model))


def layer_params(model: str, cls: Any = None) -> Any:
  """Params of the GPipeSequentialLayer of a model, a copy.

  Args:
    model: The name it is registered under.
    cls: The model's class, if not the registered one.

  Raises:
    UserError: There is no such model, or it has no such layer.
  """
  task = (cls or model_class(model))().Task()
  # Our tasks add what only they know: the loss, and shapes of targets.
  complete = getattr(task.cls, 'PipelineParams', None)
  if complete is not None:
    pipeline = complete(task)
  else:
    pipeline = pipeline_params.find_layer(
      task, sequential_layer.GPipeSequentialLayer
    )
  if pipeline is None or not issubclass(
    pipeline.cls, sequential_layer.GPipeSequentialLayer
  ):
    raise user_error.UserError(
      f'{model} has no GPipeSequentialLayer, so there is nothing to plan.'
    )
  pipeline = pipeline.Copy().Set(name=pipeline.name or 'pipeline')
  _copy_filters(task.train, pipeline)
  return pipeline


def _copy_filters(train: Any, pipeline: Any) -> None:
  """Gives a pipeline the learner's filters, as it has them in its task.

  Of several learners it takes none: all weights then count as trained.
  """
  learner = train.learner if train.learner is not None else train
  names = 'bprop_variable_filter', 'bprop_variable_exclusion'
  if isinstance(learner, list | tuple) or any(map(pipeline.Get, names)):
    return
  for name in names:
    pipeline.Set(**{name: learner.Get(name)})


def workload(
  model: str, params: Any, mini_batch_size: int | None = None
) -> Workload:
  """What there is to plan for.

  Args:
    model: The model's name.
    params: Params of its GPipeSequentialLayer.
    mini_batch_size: Examples in a mini-batch; None for M micro-batches of the
      size of input_shapes, as the Params say.

  Raises:
    ValueError: A Param is not usable, or no whole number of micro-batches
      makes the mini-batch.
  """
  costed = pipeline_plan.cost_layers(
    params.Copy().Set(splits=[], num_partitions=1, device_memory=0), 1
  )
  spec = costed.spec
  num_micro_batches = spec.num_micro_batches
  if mini_batch_size is not None:
    size = spec.micro_batch_size
    if size is None:
      raise ValueError(
        f'{model}: --batch_size needs input_shapes, which say how many '
        'examples a micro-batch has.'
      )
    num_micro_batches, rest = divmod(mini_batch_size, size)
    if rest or not num_micro_batches:
      raise ValueError(
        f'--batch_size={mini_batch_size} is not a multiple of the {size} '
        'examples of a micro-batch of input_shapes. Use a multiple, or give '
        'other --input_shapes.'
      )
  return Workload(
    name=model,
    layers=tuple(costed.costs),
    input_bytes=spec.input_bytes,
    skips=spec.skips,
    basis=costed.basis,
    num_micro_batches=num_micro_batches,
    micro_batch_size=spec.micro_batch_size,
    schedule=spec.schedule,
    recompute=AS_LISTED if spec.kept else spec.recompute,
    kept=spec.kept,
    schedules=(
      tuple(n for n in schedules.schedule_names() if n != 'auto')
      if params.loss_tpl is not None
      else ('gpipe',)
    ),
    knows_activations=bool(params.input_shapes),
  )


# -- Families.


@dataclasses.dataclass(frozen=True)
class Kind:
  """How the classes of registered models say their size.

  Attributes:
    name: The family's name.
    length: The class attribute that is L.
    width: The class attribute that is D, or '' if D is fixed.
    short: An L whose model has each kind of layer that longer ones have.
    length_step: L is a multiple of this.
    width_step: So is D of this.
    traced: The three D that are traced.
  """

  name: str
  length: str
  width: str
  short: int
  length_step: int
  width_step: int = 1
  traced: tuple[int, ...] = ()


# In a run of an AmoebaNet's normal cells the third is like all that follow it,
# but for the network's last, which hands nothing on: so four in a run.
AMOEBANET = Kind('AmoebaNet', 'LENGTH', 'DIM', 12, 3, 32, (32, 64, 96))
TRANSFORMER = Kind('Transformer', 'NUM_LAYERS', '', 2, 1)


class Family:
  """Models that differ from a registered one in size alone."""

  def __init__(self, model: str, **overrides: Any):
    """Finds out which family a model is of.

    Args:
      model: The name it is registered under.
      **overrides: Params of its GPipeSequentialLayer to set.

    Raises:
      UserError: There is no such model, or its class says no size.
    """
    self._model = model
    self._overrides = overrides
    self._class = model_class(model)
    kinds = [
      kind
      for kind in (AMOEBANET, TRANSFORMER)
      if hasattr(self._class, kind.length)
      and (not kind.width or hasattr(self._class, kind.width))
    ]
    if not kinds:
      raise user_error.UserError(
        f'--largest: the size of {model} cannot be changed. Its class has '
        'neither LENGTH and DIM (as image.imagenet.AmoebaNetD18x256 has) nor '
        'NUM_LAYERS (as lm.paper.Transformer13 has).'
      )
    self.kind = kinds[0]

  def title(self, length: int, width: int) -> str:
    """A model's name in reports; `width` does not count if it is fixed."""
    if not self.kind.width:
      return f'{self.kind.name}-{length}'
    return f'{self.kind.name}({length}, {width})'

  def workload(self, length: int, width: int = 0) -> Workload:
    """The model of a size, not traced unless it is a small one.

    Layers have the names of those in the short model that they are like.
    """
    short = min(length, self.kind.short)
    layers = tuple(
      self._cost(short, index, width) for index in self._layers(length)
    )
    small = self._traced(short, self._widths[0])
    # The input is as wide in all of them.
    return dataclasses.replace(
      small, name=self.title(length, width), layers=layers
    )

  @property
  def _widths(self) -> tuple[int, ...]:
    return self.kind.traced or (0,)

  def _params(self, length: int, width: int) -> Any:
    """Params of the pipeline of a size."""
    sizes = {self.kind.length: length}
    if self.kind.width:
      sizes[self.kind.width] = width
    cls = type(self._class.__name__, (self._class,), sizes)
    return layer_params(self._model, cls).Set(**self._overrides)

  @functools.cache  # noqa: B019 (lives as long as the program)
  def _traced(self, short: int, width: int) -> Workload:
    """A short model at a width."""
    return workload(self._model, self._params(short, width))

  @functools.cache  # noqa: B019
  def _cost(self, short: int, index: int, width: int) -> LayerCost:
    """The cost of a layer of a short model at any width."""
    known = {w: self._traced(short, w).layers[index] for w in self._widths}
    if not self.kind.width:
      return known[0]
    return cost_at_width(known, width)

  @functools.cache  # noqa: B019
  def _layers(self, length: int) -> list[int]:
    """The layers of a length, as positions in the short model.

    From the short model to the one a step longer some layers come to be
    repeated more often, and so it goes on:

    ```
      short        a b c c d      counts  1 1 2 1
      a step more  a b c c c d            1 1 3 1
      n steps more                        1 1 2+n 1
    ```

    Raises:
      ValueError: Longer models are no such repetition.
    """
    kind = self.kind
    short = self._like(min(length, kind.short))
    steps = (length - min(length, kind.short)) // kind.length_step
    if not steps:
      return short
    longer = self._like(kind.short + kind.length_step)
    counts, more = _run_lengths(short), _run_lengths(longer)
    if [i for i, _ in counts] != [i for i, _ in more]:
      raise ValueError(
        f'{self._model}: {self.title(length, self._widths[0])} does not repeat '
        f'the layers of {self.title(kind.short, self._widths[0])}, so its cost '
        'is not known.'
      )
    return [
      i
      for (i, count), (_, next_count) in zip(counts, more, strict=True)
      for _ in range(count + steps * (next_count - count))
    ]

  @functools.cache  # noqa: B019
  def _like(self, length: int) -> list[int]:
    """For each layer of a model the first of the short model that is like it.

    Raises:
      ValueError: There is none like one of them.
    """
    width = self._widths[0]
    short_length = min(length, self.kind.short)
    short = _cost_params(self._params(short_length, width))
    indices = []
    for name, params in _cost_params(self._params(length, width)):
      like = [i for i, (_, p) in enumerate(short) if equal_but_name(p, params)]
      if not like:
        raise ValueError(
          f'{self._model}: layer {name!r} of {self.title(length, width)} is '
          f'like none of {self.title(short_length, width)}, so its cost '
          'is not known.'
        )
      indices.append(like[0])
    return indices


def _run_lengths(numbers: Sequence[int]) -> list[tuple[int, int]]:
  """Each number with how often it is repeated."""
  return [(i, len(list(same))) for i, same in itertools.groupby(numbers)]


def _cost_params(params: Any) -> list[tuple[str, Any]]:
  """Names of a pipeline's layers, and Params without what costs nothing."""
  return [
    (layer.name, model_costs.cost_params(layer.params))
    for layer in flat_layers.flatten(params.sub, params)
  ]


def cost_at_width(known: Mapping[int, LayerCost], width: int) -> LayerCost:
  """The cost of a layer at a width.

  Args:
    known: Its costs at three widths.
    width: Any width.
  """
  if width in known:
    return known[width]
  assert len(known) == _NUM_WIDTHS
  changes: dict[str, Any] = {}
  for name in _GROWING:
    points = {w: getattr(cost, name) for w, cost in known.items()}
    changes[name] = max(_quadratic(points, width), Fraction(0))
    if name not in ('forward', 'backward', 'weight_gradient'):
      changes[name] = round(changes[name])
  of_weights = changes.pop('weight_gradient')
  if changes['backward']:
    changes['weight_share'] = float(min(of_weights / changes['backward'], 1))
  changes['gradient_bytes'] = changes.pop('gradient_sum_bytes')
  return dataclasses.replace(next(iter(known.values())), **changes)


def _quadratic(points: Mapping[int, Number], x: int) -> Fraction:
  """The value at x of the parabola through three points (Lagrange)."""
  total = Fraction(0)
  for a, value in points.items():
    weight = Fraction(1)
    for b in points:
      if b != a:
        weight *= Fraction(x - b, a - b)
    total += weight * Fraction(value)
  return total
