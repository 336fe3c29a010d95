# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A case's model for Lingvo's own PipeliningLayer, and what that asks for.

- Every layer must say its output shapes (`FPropMeta`); ours do not, so the
  shapes are found by tracing once, outside of what is timed.
- All that passes a boundary has one dtype, and gradients: token ids cannot, so
  the embedding runs before the pipeline, on the first device, which Lingvo's
  engine does with the whole mini-batch.
- Variables of a cell cannot be assigned in it, so batch norm keeps no moving
  averages. Training computes the same, and a little less.
- Variables are named by cell; they are given the model's own names, so that
  they start alike.
"""

import itertools
from typing import Any

import lingvo.compat as tf
from lingvo.core import gpipe, py_utils, tshape

from lingvo_gpipe.models import batch_norm
from lingvo_gpipe.pipeline.feature_extraction_layer import to_tuple
from tools.benchmark import case_model
from tools.benchmark.cases import Case


class ShapedCell(gpipe.FeatureExtractionLayer):
  """A cell whose output shapes are Params, and not asked of its layers."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('out_shapes', [], "The shapes of its outputs' micro-batches.")
    return p

  @classmethod
  def FPropMeta(cls, p, *args):
    del args
    shapes = tuple(tshape.Shape(shape) for shape in p.out_shapes)
    return py_utils.NestedMap(flops=1, out_shapes=shapes)


class BatchNormOfTheBatch(batch_norm.FusedBatchNormLayer):
  """Batch norm for training only: no moving averages are kept."""

  def FProp(self, theta, inputs, paddings=None):
    beta, gamma = self._GetBetaGamma(theta, inputs)
    outputs, _, _ = tf.tf1.nn.fused_batch_norm(
      inputs, gamma, beta, epsilon=self.epsilon, is_training=True
    )
    return outputs


def pipelining_params(
  case: Case, splits: list[int], num_micro_batches: int, name: str
) -> Any:
  """Params of Lingvo's PipeliningLayer for a case.

  Args:
    case: The case.
    splits: The first layer of each cell but the first.
    num_micro_batches: M.
    name: The layer's name, under which the variables are found.

  Raises:
    ValueError: The first cell has nothing but what runs before the pipeline.
  """
  model = case_model.make(case, BatchNormOfTheBatch.Params())
  layers = model.layers
  shapes = _output_shapes(model, case.batch // num_micro_batches)
  num_before = 1 if model.inputs.dtype.is_integer else 0
  ends = [num_before, *splits, len(layers)]
  if ends[1] <= num_before:
    raise ValueError(
      f'The first cell has only {layers[0].name}, the embedding, which '
      "Lingvo's engine runs before its pipeline; use fewer cells."
    )

  def cell(cell_name: str, start: int, end: int) -> Any:
    return ShapedCell.Params().Set(
      name=cell_name,
      sub=layers[start:end],
      out_shapes=shapes[end - 1],
      child_variable_scope_override={
        layer.name: [name] for layer in layers[start:end]
      },
    )

  return gpipe.PipeliningLayer.Params().Set(
    name=name,
    num_micro_batches=num_micro_batches,
    state_dtype=tf.float32,
    before_tpl=[cell('before', 0, num_before)] if num_before else [],
    cell_tpl=[
      cell(f'cell{k}', start, end)
      for k, (start, end) in enumerate(itertools.pairwise(ends))
    ],
  )


def _output_shapes(
  model: case_model.CaseModel, batch: int
) -> list[list[list[int]]]:
  """For each layer, the shapes of its outputs for so many examples."""
  shapes = []
  with tf.Graph().as_default():
    args = (
      tf.tf1.placeholder(model.inputs.dtype, (batch, *model.inputs.shape)),
    )
    for params in model.layers:
      layer = params.Copy().Instantiate()
      args = to_tuple(layer.FProp(layer.theta, *args))
      shapes.append([x.shape.as_list() for x in args])
  return shapes
