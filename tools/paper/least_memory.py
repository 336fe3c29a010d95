# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cuts layers so that the fullest device needs least, and guesses how much."""

import dataclasses

from lingvo_gpipe.cutting.cost_model import LayerCost
from lingvo_gpipe.cutting.partitioner import (
  Partition,
  PipelineSpec,
  least_memory_splits,
  partition,
)
from tools.benchmark.cases import Case

# Normal cells of an AmoebaNet run: the third is like all that follow.
_DISTINCT = 3


@dataclasses.dataclass(frozen=True)
class Reference:
  """What the layers of a small model of a family cost.

  Attributes:
    case: The model: nine normal cells, or one Transformer layer.
    layers: The costs of its layers, bytes for `case.micro_batch_size` examples.
    input_bytes: Bytes of the input of as many.
  """

  case: Case
  layers: tuple[LayerCost, ...]
  input_bytes: int


def reference_case(case: Case) -> Case:
  """The model whose costs tell those of all sizes of a family."""
  num_layers = 3 * _DISTINCT if case.model == 'amoebanet' else 1
  return dataclasses.replace(case, num_layers=num_layers, num_cells=1)


def guess_cut(reference: Reference, case: Case) -> Partition:
  """A case cut for least memory, with about what each worker needs.

  That is without its idle level. Weights are taken to grow with the square of
  D, activations with D.
  """
  examples = case.micro_batch_size / reference.case.micro_batch_size
  dim = case.dim / reference.case.dim
  scales = {
    'parameters': dim * dim,
    'weight_bytes': dim * dim,
    'optimizer_bytes': dim * dim,
    'activation_bytes': dim * examples,
    'transient_bytes': dim * examples,
    'output_bytes': dim * examples,
  }
  layers = [
    dataclasses.replace(
      layer,
      gradient_bytes=None,
      **{n: round(getattr(layer, n) * by) for n, by in scales.items()},
    )
    for layer in _lengthened(reference, case)
  ]
  spec = PipelineSpec(
    num_devices=case.num_cells,
    num_micro_batches=case.num_micro_batches,
    schedule=case.schedule,
    recompute=case.recompute,
    input_bytes=round(reference.input_bytes * examples),
  )
  return partition(layers, spec, least_memory_splits(layers, spec))


def _lengthened(reference: Reference, case: Case) -> list[LayerCost]:
  """The reference's layers, with those repeated that a longer model repeats."""
  layers = list(reference.layers)
  if case.model == 'transformer':
    embedding, layer, softmax = layers
    return [embedding] + [layer] * case.num_layers + [softmax]
  # stem, 2 reductions, run, reduction, run, reduction, run, classifier
  result, start = layers[:3], 3
  for _ in range(3):
    run = layers[start : start + _DISTINCT]
    count = case.num_layers // 3
    result += run[:count] + [run[-1]] * (count - _DISTINCT)
    result.append(layers[start + _DISTINCT])
    start += _DISTINCT + 1
  return result
