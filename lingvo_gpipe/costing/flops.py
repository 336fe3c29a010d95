# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many floating-point operations ops of TensorFlow do.

A multiplication and an addition are two. An op on integers or booleans alone
does none; nor does one that only moves data. A function of one number, exp or
tanh as well as a sum, counts as one, and so does drawing a random number. A
loop counts as often as it runs, a conditional as its dearest branch.
"""

import math
import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing.static_values import (
  CALLS,
  CONDITIONALS,
  LOOPS,
  Frame,
  Loop,
  call_frame,
  called,
)
from lingvo_gpipe.engine.graph_function import FuncGraph
from lingvo_gpipe.engine.graph_walks import needed

_logged: set[str] = set()


def count(ops: Iterable[tf.Operation], frame: Frame) -> int:
  """Counts the FLOPs of one run of ops of a graph; shapes are static.

  What cannot be counted is logged, once for each type of op, and counts 0.
  """
  return sum(_flops(op, frame) for op in ops)


def _graph_flops(graph: FuncGraph, frame: Frame) -> int:
  return count(needed([*graph.outputs, *graph.control_outputs]), frame)


def _flops(op: tf.Operation, frame: Frame) -> int:
  if op.type in LOOPS:
    return _loop_flops(op, frame)
  if op.type in (*CALLS, *CONDITIONALS):
    inputs = list(op.inputs)[op.type in CONDITIONALS :]
    return max(
      _graph_flops(graph, call_frame(graph, inputs, frame))
      for graph in called(op)
    )
  kind = re.sub(r'V\d$', '', op.type)
  if (
    not any(_is_float(t) for t in (*op.inputs, *op.outputs))
    or kind in _NO_WORK
    or kind.startswith('TensorList')
  ):
    return 0
  if kind not in _FORMULAS:
    _log_once(kind, f'FLOPs of {op.type} are not counted; {op.name} is one.')
    return 0
  try:
    return _FORMULAS[kind](op)
  except _UnknownSizeError as error:
    _log_once(
      kind,
      f'FLOPs of {op.type} are not counted where a size is not known '
      f'beforehand: {error}.',
    )
    return 0


def _loop_flops(op: tf.Operation, frame: Frame) -> int:
  loop = Loop(op, frame)
  trips = loop.trips()
  if trips is None:
    trips = 1
    _log_once(
      op.type,
      f'How often loop {op.name} runs is not known beforehand; its FLOPs are '
      'counted once, as are those of all loops of which it is not known.',
    )
  cond, body = (_graph_flops(*part) for part in loop.parts)
  return trips * body + (trips + 1) * cond


def _log_once(key: str, message: str) -> None:
  if key not in _logged:
    _logged.add(key)
    tf.logging.info('%s', message)


_Formula: TypeAlias = Callable[[tf.Operation], int]


class _UnknownSizeError(ValueError):
  """A tensor whose size is not known before it is computed."""


def _is_float(tensor: tf.Tensor) -> bool:
  dtype = tensor.dtype.base_dtype
  return bool(dtype.is_floating or dtype.is_complex)


def _dims(tensor: tf.Tensor) -> list[int]:
  if not tensor.shape.is_fully_defined():
    raise _UnknownSizeError(f'{tensor.name} has shape {tensor.shape}')
  return list(tensor.shape.as_list())


def _size(tensor: tf.Tensor) -> int:
  return math.prod(_dims(tensor))


def _tensor(op: tf.Operation, index: int | None) -> tf.Tensor:
  """An input of an op; None is its first output."""
  return op.outputs[0] if index is None else op.inputs[index]


def _each(factor: int, index: int | None = None) -> _Formula:
  return lambda op: factor * _size(_tensor(op, index))


def _matmul(transposed: str) -> _Formula:
  def flops(op: tf.Operation) -> int:
    inner = _dims(op.inputs[0])[-2 if op.get_attr(transposed) else -1]
    return 2 * inner * _size(op.outputs[0])

  return flops


def _einsum(op: tf.Operation) -> int:
  """Two for each combination of all labels; no products with one operand."""
  inputs, _, _ = op.get_attr('equation').decode().partition('->')
  sizes: dict[str, int] = {}
  for labels, tensor in zip(inputs.split(','), op.inputs, strict=True):
    dims = _dims(tensor)
    before, ellipsis, after = labels.partition('...')
    rest = range(len(dims) - len(before) - len(after), 0, -1)
    # The dimensions of an ellipsis are numbered from the end.
    names = [*before, *(i for i in rest if ellipsis), *after]
    for name, size in zip(names, dims, strict=False):
      # A label of size 1 is broadcast.
      sizes[str(name)] = max(sizes.get(str(name), 1), size)
  combinations = math.prod(sizes.values())
  if len(op.inputs) > 1:
    return 2 * combinations
  return combinations if combinations > _size(op.outputs[0]) else 0


def _conv(
  output: int | None, weights: int | None, depthwise: bool = False
) -> _Formula:
  """A convolution or one of its gradients; padding counts as data.

  Each number of its output, or of the gradient by it, meets each tap of its
  filter once, whichever of the three tensors is wanted. A filter is [window...,
  channels in, channels out], a depthwise one [window..., channels, multiplier].
  """

  def flops(op: tf.Operation) -> int:
    dims = _dims(_tensor(op, weights))
    taps = math.prod(dims[: -2 if depthwise else -1])
    return 2 * _size(_tensor(op, output)) * taps

  return flops


def _pool(index: int | None) -> _Formula:
  """One for each number in each window of a pooled tensor, or its gradient."""
  return lambda op: math.prod(op.get_attr('ksize')) * _size(_tensor(op, index))


def _in_training(trained: int, otherwise: int) -> _Formula:
  return lambda op: (
    (trained if op.get_attr('is_training') else otherwise) * _size(op.inputs[0])
  )


# By the types of ops, without V2 and the like at their end.
_BY_TYPES: dict[str, _Formula] = {
  # Functions of one number or of two, and random numbers.
  """
  Abs Acos Acosh Add ApproximateEqual Asin Asinh Atan Atan2 Atanh BesselI0e
  BesselI1e BiasAdd Ceil Cos Cosh Digamma Div DivNoNan Elu EluGrad Equal Erf
  Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod Greater GreaterEqual Igamma
  Igammac Inv InvGrad IsFinite IsInf IsNan LeakyRelu LeakyReluGrad Less
  LessEqual Lgamma Log Log1p Maximum Minimum Mod Mul MulNoNan Ndtri Neg NotEqual
  Pow RealDiv Reciprocal ReciprocalGrad Relu Relu6 Relu6Grad ReluGrad Rint Round
  Rsqrt RsqrtGrad Select Selu SeluGrad Sigmoid SigmoidGrad Sign Sin Sinh
  Softplus SoftplusGrad Softsign SoftsignGrad Sqrt SqrtGrad Square Sub Tan Tanh
  TanhGrad TruncateDiv TruncateMod Xdivy Xlog1py Xlogy Multinomial RandomGamma
  RandomStandardNormal RandomUniform StatefulStandardNormal
  StatefulTruncatedNormal StatefulUniform StatelessMultinomial
  StatelessRandomNormal StatelessRandomUniform StatelessTruncatedNormal
  TruncatedNormal
  """: _each(1),
  'ClipByValue SquaredDifference': _each(2),
  # Reductions.
  """
  ArgMax ArgMin BiasAddGrad Cumprod Cumsum Max Mean Min Prod SegmentMax
  SegmentMean SegmentMin SegmentProd SegmentSum Sum TopK UnsortedSegmentMax
  UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
  """: _each(1, 0),
  'EuclideanNorm L2Loss': _each(2, 0),
  'CumulativeLogsumexp': _each(3, 0),
  'AccumulateN AddN': lambda op: (len(op.inputs) - 1) * _size(op.outputs[0]),
  # Of the values that are scattered.
  'ScatterNd': _each(1, 1),
  """
  InplaceAdd InplaceSub ScatterNdNonAliasingAdd TensorScatterAdd
  TensorScatterMax TensorScatterMin TensorScatterSub
  """: _each(1, 2),
  # Of a moving average: a cell weights its change, and the statistic that the
  # change comes from, by the micro-batch's share of the examples.
  'AssignSubVariableOp': _each(2, 1),
  # Maximum, difference, exp, sum, quotient or difference.
  'LogSoftmax Softmax': _each(5),
  # The same, then a product and a sum for the loss, and the gradient.
  'SoftmaxCrossEntropyWithLogits': _each(8, 0),
  'SparseSoftmaxCrossEntropyWithLogits': _each(6, 0),
  # Mean 1, variance 3, scale and offset 2; statistics only in training.
  'FusedBatchNorm': _in_training(6, 2),
  # Offset's gradient 1, scale's 4, the input's 4 (2 without statistics).
  'FusedBatchNormGrad': _in_training(9, 7),
  # Three interpolations of a difference, a product and a sum.
  'ResizeBilinear': _each(9),
  'ResizeBilinearGrad': _each(8, 0),
  'MatMul SparseMatMul': _matmul('transpose_a'),
  'BatchMatMul': _matmul('adj_x'),
  'Einsum': _einsum,
  'Conv2D Conv3D': _conv(None, 1),
  'Conv2DBackpropInput Conv3DBackpropInput': _conv(2, 1),
  'Conv2DBackpropFilter Conv3DBackpropFilter': _conv(2, None),
  'DepthwiseConv2dNative': _conv(None, 1, depthwise=True),
  'DepthwiseConv2dNativeBackpropInput': _conv(2, 1, depthwise=True),
  'DepthwiseConv2dNativeBackpropFilter': _conv(2, None, depthwise=True),
  'AvgPool AvgPool3D MaxPool MaxPool3D': _pool(None),
  'AvgPoolGrad AvgPool3DGrad': _pool(1),
  'MaxPoolGrad MaxPool3DGrad': _pool(2),
}
_FORMULAS = {
  name: formula
  for names, formula in _BY_TYPES.items()
  for name in names.split()
}

# Ops that move numbers, make constants or only check; so do all TensorList ops.
_NO_WORK_TYPES = """
  Assert BatchToSpace BatchToSpaceND Bitcast BroadcastTo Cast CheckNumerics
  Complex ComplexAbs Concat Conj Const DeepCopy DepthToSpace Diag
  DynamicPartition DynamicStitch Empty EmptyTensorList EnsureShape ExpandDims
  ExtractImagePatches Fill Gather GatherNd Identity IdentityN Imag InplaceUpdate
  InvertPermutation LinSpace MatrixBandPart MatrixDiag MatrixDiagPart
  MatrixSetDiag MirrorPad MirrorPadGrad NoOp OneHot OnesLike Pack Pad
  ParallelConcat ParallelDynamicStitch Placeholder PlaceholderWithDefault
  PreventGradient Print Range Rank ReadVariableOp Real Reshape
  ResizeNearestNeighbor ResizeNearestNeighborGrad ResourceGather
  ResourceGatherNd Reverse ReverseSequence Roll Shape ShapeN Size Slice Snapshot
  SpaceToBatch SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient
  StridedSlice StridedSliceGrad StringFormat TensorScatterUpdate Tile Transpose
  Unpack Where ZerosLike
"""
_NO_WORK = frozenset(_NO_WORK_TYPES.split())
