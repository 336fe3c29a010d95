# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""A case's model for Lingvo's own PipeliningLayer, and what that asks for.

docs/benchmark.md ("Fairness") says what it cannot do. Besides, its channels say
that every device is in its 0th incarnation, which holds within one process
only: a server refuses to send to a device of another one. And its variables are
named by cell; they are given the model's own names, so that they start alike.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import lingvo.compat as tf
from lingvo.core import gpipe, py_utils, sendrecv, tshape

from lingvo_gpipe.models import batch_norm
from lingvo_gpipe.pipeline.feature_extraction_layer import to_tuple
from tools.benchmark import case_model
from tools.benchmark.cases import Case


class ShapedCell(gpipe.FeatureExtractionLayer):
  """A cell whose output shapes are Params, and not asked of its layers."""

  @classmethod
  def Params(cls) -> Any:
    p = super().Params()
    p.Define('out_shapes', [], "The shapes of its outputs' micro-batches.")
    return p

  @classmethod
  def FPropMeta(cls, p: Any, *args: Any) -> Any:
    del args
    shapes = tuple(tshape.Shape(shape) for shape in p.out_shapes)
    return py_utils.NestedMap(flops=1, out_shapes=shapes)


class BatchNormOfTheBatch(batch_norm.FusedBatchNormLayer):
  """Batch norm for training only: no moving averages are kept."""

  def FProp(self, theta: Any, inputs: Any, paddings: Any = None) -> Any:
    beta, gamma = self._GetBetaGamma(theta, inputs)
    outputs, _, _ = tf.tf1.nn.fused_batch_norm(
      inputs, gamma, beta, epsilon=self.epsilon, is_training=True
    )
    return outputs


def pipelining_params(case: Case, splits: Sequence[int], name: str) -> Any:
  """Params of Lingvo's PipeliningLayer for a case.

  Raises:
    ValueError: The first cell has nothing but what runs before the pipeline.
  """
  model = case_model.make(case, BatchNormOfTheBatch.Params())
  layers = model.layers
  shapes = _output_shapes(model, case.micro_batch_size)
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
    num_micro_batches=case.num_micro_batches,
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
  shapes, inputs = [], model.inputs
  with tf.Graph().as_default():
    args = (tf.tf1.placeholder(inputs.dtype, (batch, *inputs.shape)),)
    for params in model.layers:
      layer = params.Copy().Instantiate()
      args = to_tuple(layer.FProp(layer.theta, *args))
      shapes.append([x.shape.as_list() for x in args])
  return shapes


def _channel_class(incarnations: Mapping[str, int]) -> type[sendrecv.Channel]:
  class ProcessChannel(sendrecv.Channel):
    """A channel whose ends may lie in different processes."""

    def _Ends(self) -> dict[str, object]:
      return {
        'tensor_name': self._name,
        'send_device': self._send_device,
        'send_device_incarnation': incarnations[self._send_device],
        'recv_device': self._recv_device,
      }

    def Send(self, tensor: Any) -> Any:
      return tf.raw_ops.Send(tensor=tensor, **self._Ends())

    def Recv(self) -> Any:
      received = tf.raw_ops.Recv(tensor_type=self._dtype, **self._Ends())
      received.set_shape(self._shape)
      return received

  return ProcessChannel


def known_to_channels(target: str) -> Any:
  """Tells Lingvo's channels of sessions' processes, while the block runs."""
  with tf.Graph().as_default(), tf.compat.v1.Session(target) as session:
    incarnations = {
      # As an op's attribute has it, signed.
      device.name: (device.incarnation + 2**63) % 2**64 - 2**63
      for device in session.list_devices()
    }
  return mock.patch.object(sendrecv, 'Channel', _channel_class(incarnations))
