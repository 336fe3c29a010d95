# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""One cell as functions: traced once, called for each micro-batch.

All are made of the traced graph T and its gradient G, so all run the same ops:

```
  forward, keeps      T + residuals     returns what G reads of T
  forward, recomputes T + stash         returns what is kept all the same
  recompute           T again           residuals, from arguments and stash
  backward            G + sum           see `backward_function`
```
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow.compat.v1 as tf

from lingvo_gpipe.engine import graph_function, graph_walks, graphs
from lingvo_gpipe.engine.backward_function import BackwardFunction
from lingvo_gpipe.engine.micro_batches import CONTEXT_SPEC, Context
from lingvo_gpipe.engine.tensors import (
  compiles_graph,
  device_inside,
  flat_tensors,
  spec,
  specs_of,
)


@dataclasses.dataclass
class CellInputs:
  """What a cell's traced body is given.

  Attributes:
    inputs: What the cell before hands on, or the pipeline's input: a nest.
    side_inputs: Inputs given to this cell alone, such as labels: a nest.
    carry: What the last micro-batch handed to this one, without gradients.
    taken: Values that earlier cells put aside, a nest by each name.
  """

  inputs: Any
  side_inputs: Any
  weights: list[tf.Tensor]
  context: Context
  carry: list[tf.Tensor]
  taken: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class CellOutputs:
  """What a cell's traced body returns.

  Attributes:
    outputs: What the next cell, or the pipeline's caller, gets: a nest.
    losses: Float scalars that add to the loss, such as auxiliary losses.
    carry: As in `CellInputs`, for the next micro-batch; the same structure.
    values: Tensors for the pipeline's caller without a gradient.
    put: Values put aside for later cells, a nest by each name.
    rests: What is left for later cells of the values taken, the same. They
      get the value from where it was put, but send its gradient here.
    kept: Ranges of the ops traced so far, by number. A recomputed forward pass
      does not run them again; what it needs of them is kept.
  """

  outputs: Any
  losses: list[tf.Tensor] = dataclasses.field(default_factory=list)
  carry: list[tf.Tensor] = dataclasses.field(default_factory=list)
  values: list[tf.Tensor] = dataclasses.field(default_factory=list)
  put: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  rests: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  kept: Sequence[range] = ()
  notes: Any = None


@dataclasses.dataclass
class Cell:
  """One cell.

  Attributes:
    carry: The carry of its first micro-batch.
    side_inputs: Inputs for this cell alone, one nest a micro-batch; or None.
    puts: Names of the values that it hands to later cells.
    takes: Names of the values that it takes from earlier cells.
    trained: For each weight, whether it is trained; None if all are.
  """

  name: str
  device: str
  body: Callable[[CellInputs], CellOutputs]
  weights: Sequence[tf.Tensor]
  carry: Sequence[tf.Tensor] = ()
  side_inputs: Sequence[Any] | None = None
  puts: Sequence[str] = ()
  takes: Sequence[str] = ()
  trained: Sequence[bool] | None = None

  def side_input(self, micro_batch: int) -> Any:
    return None if self.side_inputs is None else self.side_inputs[micro_batch]


class OfResults(NamedTuple):
  """For each tensor that a cell returns, its gradient, or if it has one."""

  outputs: Sequence[Any]
  put: Mapping[str, Sequence[Any]] = {}
  rests: Mapping[str, Sequence[Any]] = {}

  def in_order(self, losses: Sequence[Any]) -> list[Any]:
    """All, in the order of a backward call, those of the losses in between."""
    put, rests = ([by[n] for n in sorted(by)] for by in (self.put, self.rests))
    return list(itertools.chain(self.outputs, *put, losses, *rests))


class CellFunction:
  """A cell traced for inputs of one set of shapes and dtypes.

  Attributes:
    outputs: Specs of the outputs, in the cell's own nest.
    put: Specs of the values put aside, in their nests, by name.
    graph: The traced graph T.
    data_inputs: Its placeholders of inputs, values taken and side inputs.
    weight_inputs: Its placeholders of weights and captures.
    captures: Tensors of the surrounding graph that the cell uses besides its
      arguments; weights in all but name.
    goes_back: Whether it has a backward pass; if so, it has what follows.
    has_gradient: What `prepare_backward` was given.
    backward: The functions of the backward pass.
  """

  has_gradient: OfResults
  backward: BackwardFunction

  def __init__(
    self, cell: Cell, inputs: Any, taken: Mapping[str, Any], side_inputs: Any
  ):
    """Traces the cell for inputs of given specs, None where is no tensor."""
    # Traces outlive a step, and the cell has tensors of one.
    self._name = cell.name
    self._num_carry = len(cell.carry)
    self._device = device_inside(cell.device)
    self._packs = not compiles_graph()
    self._input_nest = (inputs, dict(taken), side_inputs)
    specs = flat_tensors(self._input_nest)
    ends = [len(specs), len(specs) + len(cell.weights)]
    specs += map(spec, cell.weights)
    specs += [CONTEXT_SPEC, *map(spec, cell.carry)]
    self.graph = graphs.trace(
      f'{cell.name}_forward',
      lambda *args: self._run_body(
        cell.body, args[: ends[0]], args[ends[0] : ends[1]], *args[ends[1] :]
      ),
      specs,
      self._device,
    )
    placeholders = self.graph.inputs
    self.data_inputs = placeholders[: ends[0]]
    self._weights = placeholders[ends[0] : ends[1]]
    captured = placeholders[len(specs) :]
    self.weight_inputs = [*self._weights, *captured]
    trained = cell.trained or itertools.repeat(True)
    self._trained = [*itertools.compress(self._weights, trained), *captured]
    self._arguments = [
      *self.data_inputs,
      *self._pack(self._weights),
      *placeholders[ends[1] :],
    ]
    self.captures = list(self.graph.external_captures)
    self.goes_back = False
    self._functions: dict[str, graph_function.GraphFunction] = {}

  def _run_body(
    self,
    body: Callable[[CellInputs], CellOutputs],
    data: Sequence[tf.Tensor],
    weights: Sequence[tf.Tensor],
    context: tf.Tensor,
    *carry: tf.Tensor,
  ) -> list[tf.Tensor]:
    inputs, taken, side_inputs = _pack_like(self._input_nest, data)
    where = Context(*tf.unstack(context))
    outputs = body(
      CellInputs(inputs, side_inputs, list(weights), where, list(carry), taken)
    )
    nests = tf.nest.map_structure(
      lambda leaf: None if leaf is None else tf.convert_to_tensor(leaf),
      (outputs.outputs, dict(outputs.put)),
    )
    self.outputs, self.put = specs_of(nests)
    self.notes = outputs.notes
    self._kept = outputs.kept
    self._rests = {n: flat_tensors(rest) for n, rest in outputs.rests.items()}
    flat = flat_tensors(nests)
    self.num_outputs = len(flat)
    self.num_losses = len(outputs.losses)
    self.num_values = len(outputs.values)
    return [*flat, *outputs.losses, *outputs.carry, *outputs.values]

  def _pack(self, tensors: Sequence[tf.Tensor]) -> list[graph_function.Item]:
    return graph_function.items(tensors, packs=self._packs)

  def uses_weight(self, index: int) -> bool:
    return bool(self._weights[index].consumers())

  def pack_weights(self, weights: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    return graph_function.pack(self._pack(weights))

  def arguments(
    self,
    inputs: Any,
    taken: Mapping[str, Any],
    side_inputs: Any,
    weights: Sequence[tf.Tensor],
    context: tf.Tensor,
    carry: Sequence[tf.Tensor],
  ) -> list[tf.Tensor]:
    """The flat arguments of a call; the weights are from `pack_weights`."""
    data = flat_tensors((inputs, dict(taken), side_inputs))
    return [*data, *weights, context, *carry, *self.captures]

  def results(self, flat: Sequence[tf.Tensor]) -> CellOutputs:
    rest = iter(flat)

    def take(count: int) -> list[tf.Tensor]:
      return list(itertools.islice(rest, count))

    outputs, put = _pack_like((self.outputs, self.put), take(self.num_outputs))
    return CellOutputs(
      outputs,
      put=put,
      losses=take(self.num_losses),
      carry=take(self._num_carry),
      values=take(self.num_values),
    )

  def forward(
    self, args: Sequence[tf.Tensor], *, keep: bool
  ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Calls the cell; returns its results, and the stash or residuals."""
    name = 'forward_keep' if keep and self.goes_back else 'forward'
    if name not in self._functions:
      stash: list[tf.Tensor] = []
      if self.goes_back:
        stash = self.backward.residuals if keep else self._stash[0]
      # What has side effects runs, though nothing may need what it returns.
      effects = [op for op in self.graph.get_operations() if op._is_stateful]
      self._functions[name] = graph_function.GraphFunction(
        f'{self._name}_{name}',
        self.graph,
        self._arguments,
        [*self.graph.outputs, *self._pack(stash)],
        effects=effects,
      )
    count = len(self.graph.outputs)
    flat = self._functions[name](args, num_shaped=count)
    return flat[:count], flat[count:]

  @functools.cached_property
  def _stash(self) -> tuple[list[tf.Tensor], set[tf.Operation]]:
    """What the recomputed pass takes from the first one; what it leaves out."""
    return graph_walks.stash(self.graph, self.backward.residuals, self._kept)

  def recompute(
    self,
    args: Sequence[tf.Tensor],
    stash: Sequence[tf.Tensor],
    d_ys: Sequence[tf.Tensor],
  ) -> list[tf.Tensor]:
    """Runs the cell again for what the backward pass reads, after `d_ys`."""
    if not self.backward.residuals:
      return []
    if 'recompute' not in self._functions:
      kept, left_out = self._stash
      with self.graph.as_default():
        unread = [tf.placeholder(t.dtype, t.shape) for t in d_ys[:1]]
      self._functions['recompute'] = graph_function.GraphFunction(
        f'{self._name}_recompute',
        self.graph,
        [*self._arguments, *self._pack(kept), *unread],
        self._pack(self.backward.residuals),
        without=left_out,
      )
    given = [*args, *stash, *d_ys[:1]]
    return self._functions['recompute'](given, num_shaped=0)

  def prepare_backward(
    self,
    has_gradient: OfResults,
    input_gradients: bool,
    *,
    without: Collection[str] = (),
    weighted: bool = False,
    keeps: bool = True,
  ) -> tuple[list[bool], dict[str, list[bool]]]:
    """Builds the gradient; to be called before any other call.

    Args:
      has_gradient: Which tensors of what the cell returns are given one.
      input_gradients: Whether to compute gradients of the inputs.
      without: Names of values taken whose gradients nobody needs.
      weighted: Whether the losses, or the only output if there are none, are
        given the micro-batch's weight as their gradient; see `differentiate`.
      keeps: Whether what the trace wants to be kept is kept.

    Returns whether there is a gradient, as from `split_gradients`.
    """
    assert not self._functions, 'The forward function is already made.'
    self.goes_back, self.has_gradient = True, has_gradient
    if not keeps:
      self._kept = ()
    returned = [
      *self.graph.outputs[: self.num_outputs + self.num_losses],
      *(t for name in sorted(has_gradient.rests) for t in self._rests[name]),
    ]
    given = has_gradient.in_order([True] * self.num_losses)
    weight = None
    if weighted and any(given):
      before_losses = has_gradient._replace(rests={}).in_order([])
      weight = sum(before_losses) if self.num_losses else 0
    of_inputs, of_taken = self.split_gradients(self.data_inputs)
    data = of_inputs if input_gradients else [None] * len(of_inputs)
    for name, values in of_taken.items():
      data += [None] * len(values) if name in without else values
    gradient = graphs.differentiate(
      self.graph,
      list(itertools.compress(returned, given)),
      [*data, *self._trained],
      f'{self._name}_backward',
      num_dense=len(data),
      device=self._device,
      weight=weight,
    )
    self.backward = BackwardFunction(
      self._name,
      self.graph,
      self._arguments,
      gradient,
      len(data),
      self._device,
      packs=self._packs,
    )
    return self.split_gradients(self.backward.has_gradient)

  def split_gradients(
    self, flat: Sequence[Any]
  ) -> tuple[list[Any], dict[str, list[Any]]]:
    """Tells gradients of the inputs from those of the values taken, by name."""
    inputs, taken, _ = self._input_nest
    rest = iter(flat)
    of_inputs = [next(rest) for _ in flat_tensors(inputs)]
    return of_inputs, {
      name: [next(rest) for _ in flat_tensors(taken[name])]
      for name in sorted(taken)
    }


def _pack_like(nest: Any, tensors: Sequence[tf.Tensor]) -> Any:
  rest = iter(tensors)
  return tf.nest.map_structure(
    lambda leaf: None if leaf is None else next(rest), nest
  )
