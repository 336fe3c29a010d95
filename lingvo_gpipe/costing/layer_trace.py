# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One layer traced alone, the way it is traced as part of a cell.

Its graph is its own and is never run, so no variable takes memory.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import lingvo.compat as tf
from lingvo.core import base_layer

from lingvo_gpipe.costing import weights
from lingvo_gpipe.costing.building import explained
from lingvo_gpipe.engine import cell_function
from lingvo_gpipe.engine.tensors import signature
from lingvo_gpipe.pipeline import named_values
from lingvo_gpipe.pipeline.feature_extraction_layer import (
  FeatureExtractionLayer,
  describe,
)
from lingvo_gpipe.pipeline.lingvo_cell import LingvoCell


@dataclasses.dataclass(frozen=True)
class LayerCall:
  """What a layer is called with.

  Attributes:
    args: Specs of its arguments: a tuple of nests.
    taken: Specs of the values that it takes, by name.
    tied: Specs of other layers' weights that it uses, by their name in its
      theta.
    tied_names: The same with these weights' names within the model; see
      `Weights.names`.
  """

  args: tuple[Any, ...]
  taken: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tied: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tied_names: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def inputs(self) -> Any:
    """All that has a place among the traced inputs."""
    return self.args, dict(self.taken)

  def __str__(self) -> str:
    args = self.args[0] if len(self.args) == 1 else self.args
    text = describe(args)
    return f'{text} and {describe(dict(self.taken))}' if self.taken else text

  def key(self) -> Any:
    """Equal for calls with tensors of the same shapes and dtypes."""
    return signature((self.inputs, dict(self.tied)))


class LayerTrace:
  """A layer's forward pass as a graph.

  Attributes:
    call: What it is called with.
    outputs: Specs of what it returns, a nest.
    put: Specs of the values that it puts, by name.
    weights: Its weights.
    layer: The layer.
    cell: It as a cell.
    function: The traced cell.
  """

  def __init__(self, name: str, params: Any, call: LayerCall):
    """Builds and traces the layer, in the current graph.

    Args:
      name: Its name, for errors.
      params: Its Params.
      call: What it is called with.

    Raises:
      LayerError: It cannot be built, or called with that.
    """
    self.call = call
    # A function's graph does not hold the one around it.
    self._graph = tf.get_default_graph()
    own_name = params.name or 'layer'
    with explained(name, params, call):
      runner = (
        FeatureExtractionLayer.Params()
        .Set(name='cell', sub=[params.Copy().Set(name=own_name)])
        .Instantiate()
      )
      self.layer: base_layer.BaseLayer = runner.sequence[0]
      theta = runner.theta.copy()
      theta[own_name] = _with_tied(theta[own_name], call.tied)
      self._puts = named_values.declared(params).puts
      self.cell = LingvoCell(
        own_name,
        [runner],
        [theta],
        self._fprop,
        {self.layer.path: 0},
        collect_aux_losses=True,
      )
      self.function = cell_function.CellFunction(
        own_name,
        self.cell.body,
        call.args,
        None,
        self.cell.weights,
        self.cell.carry,
        '',  # Where the function runs.
        taken=call.taken,
      )
      self.weights = weights.weights_of(self.layer)
    self.outputs, self.put = self.function.outputs, self.function.put
    check_known(
      (self.outputs, self.put),
      f'What layer {name!r} ({params.cls.__name__}) returns for '
      f'{describe(call.args)}',
      'Let its FProp set the shape (tf.ensure_shape), or set balance to '
      "'params', which needs no shapes.",
    )

  def trained(
    self, name: str, call: LayerCall, is_trained: weights.IsTrained
  ) -> tuple[bool, ...]:
    """For each weight of the traced function, whether it is trained.

    Args:
      name: The layer's name within the model.
      call: What the layer of this name is called with.
      is_trained: See there; if it is None all are, as far as is known.
    """
    if is_trained is None:
      return (True,) * len(self.cell.weights)
    names = self.weights.names.Transform(lambda n: n and f'{name}/{n}')
    names.update(call.tied_names)
    return tuple(
      bool(n) and is_trained(n)
      for n in tf.nest.flatten({self.layer.params.name: names})
    )

  def _fprop(
    self, theta: Any, inputs: cell_function.CellInputs
  ) -> cell_function.CellOutputs:
    [runner] = self.cell.layers
    with named_values.scope(inputs.taken) as values:
      return cell_function.CellOutputs(
        outputs=runner.FProp(theta[0], *inputs.inputs),
        put={name: values.rest(name) for name in self._puts},
        rests={name: values.rest(name) for name in inputs.taken},
      )


def _with_tied(theta: Any, tied: Mapping[str, Any]) -> Any:
  """Theta with stand-ins for other layers' weights."""
  theta = theta.copy()
  for name, nest in tied.items():
    theta[name] = tf.nest.map_structure(
      lambda spec: tf.Variable(
        tf.zeros(spec.shape, spec.dtype), trainable=False, name='tied'
      ),
      nest,
    )
  return theta


def check_known(nest: Any, what: str, remedy: str) -> None:
  """Raises ValueError if a tensor's size is not known.

  Args:
    nest: Specs.
    what: What they are of, for the error.
    remedy: What to do about it, for the error.
  """
  for leaf in tf.nest.flatten(nest):
    if leaf is None:
      continue
    if not hasattr(leaf, 'shape') or not hasattr(leaf, 'dtype'):
      raise ValueError(
        f'{what} must be a nest of tf.TensorSpec; it has {leaf!r}. {remedy}'
      )
    if not leaf.shape.is_fully_defined():
      raise ValueError(
        f'{what} has the shape {leaf.shape}, with unknown dimensions; costs '
        f'need all of them. {remedy}'
      )
