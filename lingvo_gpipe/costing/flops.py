# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""How many floating-point operations ops of TensorFlow do.

A multiplication and an addition are two. An op on integers or booleans alone
does none; nor does one that only moves data. A function of one number, exp or
tanh as well as a sum, counts as one, and so does drawing a random number. A
loop counts as often as it runs, a conditional as its dearest branch.
"""

import math
from collections.abc import Callable, Container, Iterable
from typing import Any, TypeAlias

import tensorflow.compat.v1 as tf

from lingvo_gpipe.costing.static_values import (
  CALLS,
  LOOPS,
  Frame,
  call_frame,
  called,
  called_branches,
  loop_parts,
  trip_count,
)

_CONDITIONALS = ('Case', 'If', 'StatelessCase', 'StatelessIf')

# What has been logged already.
_logged: set[str] = set()


def needed(
  wanted: Iterable[tf.Tensor | tf.Operation], without: Container[tf.Operation]
) -> list[tf.Operation]:
  """The ops that must run for some others.

  Args:
    wanted: The others, and tensors.
    without: Ops that have run, and so need not run, nor what only they need.
  """
  ops: set[tf.Operation] = set()
  pending = [getattr(x, 'op', x) for x in wanted]
  while pending:
    op = pending.pop()
    if op not in ops and op not in without:
      ops.add(op)
      pending += [x.op for x in op.inputs]
      pending += op.control_inputs
  return list(ops)


def count(ops: Iterable[tf.Operation], frame: Frame | None = None) -> int:
  """Counts the FLOPs of one run of ops; shapes are static.

  What cannot be counted is logged, once for each type of op, and counts 0.

  Args:
    ops: The ops, of one graph.
    frame: What is known of the graph's inputs; they are zeros by default.
  """
  return sum(_flops(op, frame or Frame()) for op in ops)


def _graph_flops(graph: Any, frame: Frame) -> int:
  """Counts the FLOPs of one run of a function's graph."""
  return count(needed([*graph.outputs, *graph.control_outputs], ()), frame)


def _flops(op: tf.Operation, frame: Frame) -> int:
  if op.type in CALLS:
    graph = called(op, 'f')
    return _graph_flops(graph, call_frame(graph, op.inputs, frame))
  if op.type in LOOPS:
    return _loop_flops(op, frame)
  if op.type in _CONDITIONALS:
    inputs = list(op.inputs)[1:]
    return max(
      _graph_flops(graph, call_frame(graph, inputs, frame))
      for graph in called_branches(op)
    )
  try:
    flops = _op_flops(op)
  except _UnknownSizeError as error:
    _log_once(
      op.type,
      f'FLOPs of {op.type} are not counted where a size is not known '
      f'beforehand: {error}.',
    )
    return 0
  if flops is None:
    _log_once(
      op.type,
      f'FLOPs of {op.type} are not counted; {op.name} is the first.',
    )
    return 0
  return flops


def _loop_flops(op: tf.Operation, frame: Frame) -> int:
  trips = trip_count(op, frame)
  if trips is None:
    trips = 1
    _log_once(
      f'{op.type} trips',
      f'How often loop {op.name} runs is not known beforehand; its FLOPs are '
      'counted once, as are those of all loops of which it is not known.',
    )
  cond, body = (_graph_flops(*part) for part in loop_parts(op, frame))
  return trips * body + (trips + 1) * cond


def _log_once(key: Any, message: str) -> None:
  if key not in _logged:
    _logged.add(key)
    tf.logging.info('%s', message)


# -- The FLOPs of one op.

_Formula: TypeAlias = Callable[[tf.Operation], int]


class _UnknownSizeError(ValueError):
  """A tensor whose size is not known before it is computed."""


def _op_flops(op: tf.Operation) -> int | None:
  """The FLOPs of an op, from its tensors' static shapes.

  Args:
    op: An op that calls no function.

  Returns:
    How many; None if it is not known how to count ops of its type.

  Raises:
    _UnknownSizeError: A shape that matters is not fully known.
  """
  if not any(_is_float(t) for t in (*op.inputs, *op.outputs)):
    return 0
  if op.type in _NO_WORK:
    return 0
  count = _FORMULAS.get(op.type)
  return None if count is None else count(op)


def _is_float(tensor: tf.Tensor) -> bool:
  dtype = tensor.dtype.base_dtype
  return bool(dtype.is_floating or dtype.is_complex)


def _dims(tensor: tf.Tensor) -> list[int]:
  if not tensor.shape.is_fully_defined():
    raise _UnknownSizeError(f'{tensor.name} has shape {tensor.shape}')
  return list(tensor.shape.as_list())


def _size(tensor: tf.Tensor) -> int:
  return math.prod(_dims(tensor))


def _per_output(factor: int) -> _Formula:
  return lambda op: factor * _size(op.outputs[0])


def _per_input(factor: int, index: int = 0) -> _Formula:
  return lambda op: factor * _size(op.inputs[index])


# -- Products of matrices.


def _matmul(op: tf.Operation) -> int:
  rows_first = op.get_attr('transpose_a')
  inner = _dims(op.inputs[0])[0 if rows_first else 1]
  return 2 * inner * _size(op.outputs[0])


def _batch_matmul(op: tf.Operation) -> int:
  inner = _dims(op.inputs[0])[-2 if op.get_attr('adj_x') else -1]
  return 2 * inner * _size(op.outputs[0])


def _einsum(op: tf.Operation) -> int:
  """Two for each combination of all labels; no products with one operand."""
  inputs, _, _ = op.get_attr('equation').decode().partition('->')
  sizes: dict[str, int] = {}
  for labels, tensor in zip(inputs.split(','), op.inputs, strict=True):
    sizes = _merge(sizes, _label_sizes(labels, _dims(tensor)))
  combinations = math.prod(sizes.values())
  if len(op.inputs) > 1:
    return 2 * combinations
  return combinations if combinations > _size(op.outputs[0]) else 0


def _label_sizes(labels: str, dims: list[int]) -> dict[str, int]:
  """The size of each label; those of an ellipsis are numbered from the end."""
  before, ellipsis, after = labels.partition('...')
  names = list(before)
  if ellipsis:
    count = len(dims) - len(before) - len(after)
    names += [f'...{i}' for i in range(count, 0, -1)]
  names += list(after)
  return _merge({}, dict(zip(names, dims, strict=False)))


def _merge(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
  # A label of size 1 is broadcast.
  return {k: max(a.get(k, 1), b.get(k, 1)) for k in {**a, **b}}


# -- Convolutions. A filter is [window..., channels in, channels out], a
# depthwise one [window..., channels, multiplier]. Padding counts as data.


def _taps(filter_dims: list[int], depthwise: bool) -> int:
  """How many products make one number of the output."""
  return math.prod(filter_dims[: -2 if depthwise else -1])


def _conv(
  output: Callable[[tf.Operation], tf.Tensor],
  filter_: Callable[[tf.Operation], tf.Tensor],
  depthwise: bool = False,
) -> _Formula:
  """A convolution or one of its gradients.

  Each number of the convolution's output meets each tap of its filter once,
  whichever of the three tensors is the one that is wanted.

  Args:
    output: The convolution's output, or the gradient by it.
    filter_: Its filter, or the gradient by it.
    depthwise: Whether it is depthwise.
  """
  return lambda op: 2 * _size(output(op)) * _taps(_dims(filter_(op)), depthwise)


def _in(index: int) -> Callable[[tf.Operation], tf.Tensor]:
  return lambda op: op.inputs[index]


def _out(op: tf.Operation) -> tf.Tensor:
  return op.outputs[0]


def _pool(tensor: Callable[[tf.Operation], tf.Tensor]) -> _Formula:
  """One for each number in each window.

  Args:
    tensor: The pooled tensor, or the gradient by it.
  """
  return lambda op: math.prod(op.get_attr('ksize')) * _size(tensor(op))


# -- Others.


def _add_n(op: tf.Operation) -> int:
  return (len(op.inputs) - 1) * _size(op.outputs[0])


def _fused_batch_norm(op: tf.Operation) -> int:
  """Mean 1, variance 3, scale and offset 2; statistics only in training."""
  return (6 if op.get_attr('is_training') else 2) * _size(op.inputs[0])


def _fused_batch_norm_grad(op: tf.Operation) -> int:
  """Offset's gradient 1, scale's 4, the input's 4 (2 without statistics)."""
  return (9 if op.get_attr('is_training') else 7) * _size(op.inputs[0])


def _all_of(names: str, formula: _Formula) -> dict[str, _Formula]:
  return dict.fromkeys(names.split(), formula)


_ELEMENT_WISE = """
  Abs Acos Acosh Add AddV2 ApproximateEqual Asin Asinh Atan Atan2 Atanh
  BesselI0e BesselI1e BiasAdd BiasAddV1 Ceil Cos Cosh Digamma Div DivNoNan Elu
  EluGrad Equal Erf Erfc Erfinv Exp Expm1 Floor FloorDiv FloorMod Greater
  GreaterEqual Igamma Igammac Inv InvGrad IsFinite IsInf IsNan LeakyRelu
  LeakyReluGrad Less LessEqual Lgamma Log Log1p Maximum Minimum Mod Mul MulNoNan
  Ndtri Neg NotEqual Pow RealDiv Reciprocal ReciprocalGrad Relu Relu6 Relu6Grad
  ReluGrad Rint Round Rsqrt RsqrtGrad Select SelectV2 Selu SeluGrad Sigmoid
  SigmoidGrad Sign Sin Sinh Softplus SoftplusGrad Softsign SoftsignGrad Sqrt
  SqrtGrad Square Sub Tan Tanh TanhGrad TruncateDiv TruncateMod Xdivy Xlog1py
  Xlogy Multinomial RandomGamma RandomStandardNormal RandomUniform
  StatefulStandardNormalV2 StatefulTruncatedNormal StatefulUniform
  StatelessMultinomial StatelessRandomNormal StatelessRandomNormalV2
  StatelessRandomUniform StatelessRandomUniformV2 StatelessTruncatedNormal
  StatelessTruncatedNormalV2 TruncatedNormal
"""

_REDUCTIONS = """
  ArgMax ArgMin BiasAddGrad Cumprod Cumsum Max Mean Min Prod SegmentMax
  SegmentMean SegmentMin SegmentProd SegmentSum Sum TopK TopKV2
  UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
"""

_FORMULAS: dict[str, _Formula] = {
  **_all_of(_ELEMENT_WISE, _per_output(1)),
  **_all_of('ClipByValue SquaredDifference', _per_output(2)),
  **_all_of(_REDUCTIONS, _per_input(1)),
  **_all_of('EuclideanNorm L2Loss', _per_input(2)),
  'CumulativeLogsumexp': _per_input(3),
  **_all_of('AccumulateNV2 AddN', _add_n),
  # Additions of the values that are scattered.
  'ScatterNd': _per_input(1, 1),
  **_all_of('ScatterNdNonAliasingAdd', _per_input(1, 2)),
  # Of a moving average: a cell weights its change, and the statistic that the
  # change comes from, by the micro-batch's share of the examples.
  'AssignSubVariableOp': _per_input(2, 1),
  **_all_of(
    'InplaceAdd InplaceSub TensorScatterAdd TensorScatterMax TensorScatterMin '
    'TensorScatterSub',
    _per_input(1, 2),
  ),
  # Maximum, difference, exp, sum, quotient or difference.
  **_all_of('LogSoftmax Softmax', _per_output(5)),
  # The same, then a product and a sum for the loss, and the gradient.
  'SoftmaxCrossEntropyWithLogits': _per_input(8),
  'SparseSoftmaxCrossEntropyWithLogits': _per_input(6),
  **_all_of('FusedBatchNorm FusedBatchNormV2', _fused_batch_norm),
  'FusedBatchNormV3': _fused_batch_norm,
  **_all_of('FusedBatchNormGrad FusedBatchNormGradV2', _fused_batch_norm_grad),
  'FusedBatchNormGradV3': _fused_batch_norm_grad,
  # Three interpolations of a difference, a product and a sum.
  'ResizeBilinear': _per_output(9),
  'ResizeBilinearGrad': _per_input(8),
  **_all_of('MatMul SparseMatMul', _matmul),
  **_all_of('BatchMatMul BatchMatMulV2', _batch_matmul),
  'BatchMatMulV3': _batch_matmul,
  'Einsum': _einsum,
  **_all_of('Conv2D Conv3D', _conv(_out, _in(1))),
  **_all_of(
    'Conv2DBackpropInput Conv3DBackpropInput Conv3DBackpropInputV2',
    _conv(_in(2), _in(1)),
  ),
  **_all_of(
    'Conv2DBackpropFilter Conv3DBackpropFilter Conv3DBackpropFilterV2',
    _conv(_in(2), _out),
  ),
  'DepthwiseConv2dNative': _conv(_out, _in(1), depthwise=True),
  'DepthwiseConv2dNativeBackpropInput': _conv(_in(2), _in(1), depthwise=True),
  'DepthwiseConv2dNativeBackpropFilter': _conv(_in(2), _out, depthwise=True),
  **_all_of('AvgPool AvgPool3D MaxPool MaxPool3D', _pool(_out)),
  **_all_of('AvgPoolGrad AvgPool3DGrad', _pool(_in(1))),
  **_all_of('MaxPoolGrad MaxPool3DGrad', _pool(_in(2))),
}


def _names(text: str) -> frozenset[str]:
  return frozenset(text.split())


# Ops that move numbers, make constants or only check.
_NO_WORK = _names("""
  Assert BatchToSpace BatchToSpaceND Bitcast BroadcastTo Cast CheckNumerics
  CheckNumericsV2 Complex ComplexAbs Concat ConcatV2 Conj Const DeepCopy
  DepthToSpace Diag DynamicPartition DynamicStitch Empty EmptyTensorList
  EnsureShape ExpandDims ExtractImagePatches Fill Gather GatherNd GatherV2
  Identity IdentityN Imag InplaceUpdate InvertPermutation LinSpace
  MatrixBandPart MatrixDiag MatrixDiagPart MatrixDiagPartV2 MatrixDiagPartV3
  MatrixDiagV2 MatrixDiagV3 MatrixSetDiag MatrixSetDiagV2 MatrixSetDiagV3
  MirrorPad MirrorPadGrad NoOp OneHot OnesLike Pack Pad PadV2 ParallelConcat
  ParallelDynamicStitch Placeholder PlaceholderWithDefault PreventGradient Print
  PrintV2 Range Rank ReadVariableOp Real Reshape ResizeNearestNeighbor
  ResizeNearestNeighborGrad ResourceGather ResourceGatherNd Reverse
  ReverseSequence ReverseV2 Roll Shape ShapeN Size Slice Snapshot SpaceToBatch
  SpaceToBatchND SpaceToDepth Split SplitV Squeeze StopGradient StridedSlice
  StridedSliceGrad StringFormat TensorListConcat TensorListConcatV2
  TensorListElementShape TensorListFromTensor TensorListGather TensorListGetItem
  TensorListLength TensorListPopBack TensorListPushBack TensorListReserve
  TensorListResize TensorListScatter TensorListScatterV2 TensorListSetItem
  TensorListSplit TensorListStack TensorScatterUpdate Tile Transpose Unpack
  Where ZerosLike
""")
