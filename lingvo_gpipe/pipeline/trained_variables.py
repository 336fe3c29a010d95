# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which variables are trained, known before any gradient is asked for.

A pipeline emits its backward pass before Lingvo's learner says what it trains.
So filters are read from the pipeline's Params, or from the task's learners.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer, base_model

from lingvo_gpipe.engine.graph_walks import may_need_gradients
from lingvo_gpipe.engine.tensors import differentiable
from lingvo_gpipe.pipeline import gradients

_FILTERS = ('bprop_variable_filter', 'bprop_variable_exclusion')


@dataclasses.dataclass(frozen=True)
class VariableFilter:
  """Lingvo's: names match `wanted` and not `unwanted`; see `_FILTERS`."""

  owner: str
  wanted: str | None
  unwanted: str | None

  def passes(self, name: str) -> bool:
    if self.wanted and not re.search(self.wanted, name):
      return False
    return not (self.unwanted and re.search(self.unwanted, name))

  def __str__(self) -> str:
    values = zip(_FILTERS, (self.wanted, self.unwanted), strict=True)
    parts = [f'{name}={value!r}' for name, value in values if value]
    return f'{self.owner} has {", ".join(parts) or "no filter of variables"}'


@dataclasses.dataclass(frozen=True)
class TrainedVariables:
  """What passes one of the filters; all if there is none.

  The names of the pipeline's variables begin with `scope`.
  """

  filters: tuple[VariableFilter, ...] = ()
  scope: str = ''
  num_learners: int = 0

  def by_name(self, name: str) -> bool:
    """Whether a variable is trained, if it is trainable, by name with ':0'."""
    return not self.filters or any(f.passes(name) for f in self.filters)

  def in_pipeline(self, name: str) -> bool:
    return self.by_name(self.scope + name)

  def __call__(self, variable: Any) -> bool:
    if not self.filters:
      return True
    return variable.trainable and self.by_name(variable.name)

  def flags(self, theta: Any, variables: Any) -> Any:
    """For each weight, whether its variable, if it is known, is trained."""
    known = dict(variables.FlattenItems())
    return theta.TransformWithKey(
      lambda key, _: key not in known or self(known[key])
    )

  def not_computed(self, path: str, what: str) -> str:
    """Why something has no gradient: it is not needed for what is trained."""
    return (
      f'{path}: a gradient of {what} is asked for that the pipeline does not '
      'compute, because it is not needed for what is trained: '
      f'{"; ".join(map(str, self.filters))}. To have it, set '
      f"{path}.bprop_variable_filter to find all that needs one ('.' finds "
      'all).'
    )


def find(layer: base_layer.BaseLayer) -> TrainedVariables:
  """What is trained of a pipeline; its filters win over the learners."""
  own = _own_filter(layer.params, layer.path)
  with layer._SelfVariableScope():
    scope = f'{tf.get_variable_scope().name}/'
  learners = tuple(_learner_filters(layer))
  return TrainedVariables(own or learners, scope, len(learners))


def of_params(params: Any) -> TrainedVariables:
  """What is trained of a pipeline that is in no task, by its Params."""
  return TrainedVariables(_own_filter(params, params.name), f'{params.name}/')


def _own_filter(params: Any, what: str) -> tuple[VariableFilter, ...]:
  values = [params.Get(name) for name in _FILTERS]
  for name, value in zip(_FILTERS, values, strict=True):
    try:
      re.compile(value or '')
    except re.error as error:
      raise ValueError(
        f'{what}.{name} is {value!r}, which is not a regular expression: '
        f'{error}.'
      ) from error
  return (VariableFilter(what, *values),) if any(values) else ()


def _learner_filters(layer: base_layer.BaseLayer) -> Iterator[VariableFilter]:
  while layer.parent is not None:
    layer = layer.parent
    if isinstance(layer, base_model.BaseTask):
      for learner in layer.children.get('learners', ()):
        p = learner.params
        owner = f'learner {p.name!r} of {layer.path}'
        yield VariableFilter(owner, *(p.Get(name) for name in _FILTERS))


def check_learners(
  layer: base_layer.BaseLayer, trained: TrainedVariables
) -> None:
  """Raises ValueError if learners train what the pipeline leaves out."""
  frozen = [v for v in layer.vars.Flatten() if not trained(v)]
  for learner in _learner_filters(layer):
    lost = [v.name for v in frozen if v.trainable and learner.passes(v.name)]
    if lost:
      raise ValueError(
        f'{layer.path} is not to train {", ".join(lost[:3])}, but a learner '
        f'is: {trained.filters[0]}; {learner}. Let the pipeline train all that '
        'learners do, or leave its own filters unset: it then takes those of '
        'the learners.'
      )


def first_trained(
  layer: Any, cells: Sequence[Any], values: Callable[[int], Sequence[str]]
) -> int:
  """The first cell that the backward pass must reach; K if it reaches none."""
  is_trained = layer.trained_variables
  frozen = False
  for k, cell in enumerate(cells):
    if values(k) or any(
      trained and differentiable(weight)
      for weight, trained in zip(cell.weights, cell.trained, strict=True)
    ):
      return k if frozen else 0
    frozen = frozen or any(
      v.trainable and not is_trained(v) for v in layer.cells[k].vars.Flatten()
    )
  return len(cells) if frozen else 0


def check_captures(layer: Any, k: int, captures: Sequence[tf.Tensor]) -> None:
  if may_need_gradients(captures, layer.trained_variables.by_name):
    floats = [t.name for t in captures if differentiable(t)]
    raise ValueError(
      f'{layer.path}: nothing up to cell {layer.cells[k].params.name!r} is '
      'trained, but its layers use tensors from outside that come from '
      f'trained weights, among {floats[:3]}; these would get no gradient. Hand '
      'them to the pipeline as inputs.'
    )


def refused(
  layer: Any,
  k: int,
  layers: Sequence[base_layer.BaseLayer],
  weights: Sequence[tf.Tensor],
) -> gradients.Source:
  """The frozen weights of cell `k` and of its layers, without gradients."""
  trained = layer.trained_variables
  variables = [v for part in layers for v in part.vars.Flatten()]
  names = ', '.join([v.name for v in variables if not trained(v)][:3])
  message = trained.not_computed(layer.path, f'a weight, one of {names},')
  return gradients.refusing(layer.cell_devices[k], weights, message)
