# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which variables are trained, known before any gradient is asked for.

A pipeline emits its backward pass before, or without, knowing what Lingvo's
learner will do with it. What the learner's filters leave out would be
differentiated and summed for nothing, so the same filters are read here, from
the pipeline's own Params or from the learners of the task that it is in.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import lingvo.compat as tf
import numpy as np
from lingvo.core import base_layer, base_model

from lingvo_gpipe.engine import gradient_bridge


@dataclasses.dataclass(frozen=True)
class VariableFilter:
  """Lingvo's filter of variables by name.

  Attributes:
    owner: Whose it is, for messages.
    wanted: A regular expression that a name must contain a match of; None or
      '' for any name.
    unwanted: One that it must not contain a match of.
  """

  owner: str
  wanted: str | None
  unwanted: str | None

  def passes(self, name: str) -> bool:
    """Whether it lets a variable of this name be trained."""
    if self.wanted and not re.search(self.wanted, name):
      return False
    return not (self.unwanted and re.search(self.unwanted, name))

  def __str__(self) -> str:
    parts = [
      f'{what}={value!r}'
      for what, value in (
        ('bprop_variable_filter', self.wanted),
        ('bprop_variable_exclusion', self.unwanted),
      )
      if value
    ]
    return f'{self.owner} has {", ".join(parts) or "no filter of variables"}'


@dataclasses.dataclass(frozen=True)
class TrainedVariables:
  """What some filters let be trained.

  Attributes:
    filters: A variable is trained if one of these lets it be. Where there is
      none, every variable is.
    scope: What the names of the pipeline's variables begin with.
  """

  filters: tuple[VariableFilter, ...] = ()
  scope: str = ''

  def by_name(self, name: str) -> bool:
    """Whether a variable is trained, if it is trainable at all.

    Args:
      name: Its name, which ends in ':0'.
    """
    return not self.filters or any(f.passes(name) for f in self.filters)

  def in_pipeline(self, name: str) -> bool:
    """The same by a name without the scope."""
    return self.by_name(self.scope + name)

  def __call__(self, variable: Any) -> bool:
    """Whether a variable is trained."""
    if not self.filters:
      return True
    return variable.trainable and self.by_name(variable.name)

  def __str__(self) -> str:
    return '; '.join(map(str, self.filters))


def find(layer: base_layer.BaseLayer) -> TrainedVariables:
  """What is trained of a pipeline.

  Args:
    layer: The pipeline; its Params' own filters win over those of learners.
  """
  own = own_filter(layer.params, layer.path)
  with layer._SelfVariableScope():
    scope = f'{tf.get_variable_scope().name}/'
  return TrainedVariables(
    (own,) if own is not None else tuple(learner_filters(layer)), scope
  )


def of_params(params: Any) -> TrainedVariables:
  """What is trained of a pipeline that is in no task, by its Params."""
  own = own_filter(params, params.name)
  return TrainedVariables(() if own is None else (own,), f'{params.name}/')


def own_filter(params: Any, what: str) -> VariableFilter | None:
  """The filter in a pipeline's Params; None if they have none.

  Args:
    params: The Params.
    what: The pipeline, for messages.

  Raises:
    ValueError: It is not a regular expression.
  """
  names = 'bprop_variable_filter', 'bprop_variable_exclusion'
  values = [params.Get(name) for name in names]
  for name, value in zip(names, values, strict=True):
    try:
      re.compile(value or '')
    except re.error as error:
      raise ValueError(
        f'{what}.{name} is {value!r}, which is not a regular expression: '
        f'{error}.'
      ) from error
  return VariableFilter(what, *values) if any(values) else None


def learner_filters(layer: base_layer.BaseLayer) -> Iterator[VariableFilter]:
  """The filters of the learners of all tasks that a layer is in."""
  while layer.parent is not None:
    layer = layer.parent
    if isinstance(layer, base_model.BaseTask):
      for learner in layer.children.get('learners', ()):
        p = learner.params
        yield VariableFilter(
          f'learner {p.name!r} of {layer.path}',
          p.bprop_variable_filter,
          p.bprop_variable_exclusion,
        )


def check_learners(
  layer: base_layer.BaseLayer, trained: TrainedVariables
) -> None:
  """Checks that learners train nothing that the pipeline leaves out.

  Args:
    layer: The pipeline, with all its variables.
    trained: What is trained of it.

  Raises:
    ValueError: One does, with its filter and the pipeline's.
  """
  frozen = [v for v in layer.vars.Flatten() if not trained(v)]
  for learner in learner_filters(layer):
    lost = [v.name for v in frozen if v.trainable and learner.passes(v.name)]
    if lost:
      raise ValueError(
        f'{layer.path} is not to train {first_of(lost)}, but a learner is: '
        f'{trained}; {learner}. Let the pipeline train all that learners do, '
        'or leave its own filters unset: it then takes those of the learners.'
      )


def first_of(names: Iterable[str], most: int = 3) -> str:
  """Some names as text, the first ones if there are many."""
  names = list(names)
  text = ', '.join(names[:most])
  return text + (f' and {len(names) - most} more' if len(names) > most else '')


def flags(theta: Any, variables: Any, is_trained: Callable[[Any], bool]) -> Any:
  """For each weight, whether it is trained.

  Args:
    theta: A NestedMap of weights.
    variables: A NestedMap of their variables. What is no variable, or is not
      known, counts as trained.
    is_trained: Tells of a variable.
  """
  known = dict(variables.FlattenItems())
  return theta.TransformWithKey(
    lambda key, _: key not in known or is_trained(known[key])
  )


def not_trained(what: str, path: str, trained: TrainedVariables) -> str:
  """Why something has no gradient: it is not needed for what is trained.

  Args:
    what: It, in words.
    path: The pipeline's path.
    trained: What is trained.
  """
  return (
    f'{path}: a gradient of {what} is asked for that the pipeline does not '
    f'compute, because it is not needed for what is trained: {trained}. To '
    f'have it, set {path}.bprop_variable_filter to find all that needs one '
    "('.' finds all)."
  )


def refusing_source(
  device: str, tensors: list[tf.Tensor], message: str
) -> gradient_bridge.Source:
  """Tensors of which a gradient must not be asked for.

  It is an error, not None, which a learner would skip. A gradient tape asks for
  all that there is: it gets NaN inside of `tf.function`, None outside of it.

  Args:
    device: Where they are.
    tensors: The tensors.
    message: The error's message.
  """

  def refuse() -> list[tf.Tensor | None]:
    if tf.executing_eagerly():
      return [None] * len(tensors)
    if not tf.get_default_graph().building_function:
      raise ValueError(message)
    # A tape asks for all that there is; what it does not use is not computed.
    return [tf.fill(tf.shape(t), tf.constant(np.nan, t.dtype)) for t in tensors]

  return gradient_bridge.Source(device, tensors, refuse)
