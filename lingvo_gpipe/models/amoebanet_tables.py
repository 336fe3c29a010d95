# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cell tables of the AmoebaNet family, and the operations that they name.

A table is a list of ten (state, operation) pairs and the list of states whose
concatenation is the cell's output. State 0 is the preprocessed output of the
previous cell, state 1 the preprocessed output of the one before it; pairs
2 i and 2 i + 1 are computed and added to give state i + 2.

    state   0    1 ----+--------+
            |    |     |        |          The first step of NORMAL_D:
            |    |  conv_1x1  max_pool_3x3   (1, conv_1x1) + (1, max_pool_3x3)
            |    |     +---(+)--+
            |    |          |
            |    |     state 2

Sources: Real et al., Regularized Evolution for Image Classifier Architecture
Search, arXiv:1802.01548 (the family and its search); torchgpipe's AmoebaNet-D,
https://github.com/kakaobrain/torchgpipe, and TensorFlow's AmoebaNet for TPU,
https://github.com/tensorflow/tpu (the tables as trained by GPipe).
"""

from lingvo.core import builder_layers

from lingvo_gpipe.models import image_layers

NORMAL_D = [
  (1, 'conv_1x1'),
  (1, 'max_pool_3x3'),
  (1, 'none'),
  (0, 'conv_1x7_7x1'),
  (0, 'conv_1x1'),
  (0, 'conv_1x7_7x1'),
  (2, 'max_pool_3x3'),
  (2, 'none'),
  (1, 'avg_pool_3x3'),
  (5, 'conv_1x1'),
]
NORMAL_D_CONCAT = [0, 3, 4, 6]

REDUCTION_D = [
  (0, 'max_pool_2x2'),
  (0, 'max_pool_3x3'),
  (2, 'none'),
  (1, 'conv_3x3'),
  (2, 'conv_1x7_7x1'),
  (2, 'max_pool_3x3'),
  (3, 'none'),
  (1, 'max_pool_2x2'),
  (2, 'avg_pool_3x3'),
  (3, 'conv_1x1'),
]
REDUCTION_D_CONCAT = [4, 5, 6]

NORMAL_B = [
  (1, 'conv_1x1'),
  (1, 'max_pool_3x3'),
  (1, 'none'),
  (0, 'sep_conv_3x3'),
  (1, 'conv_1x1'),
  (0, 'sep_conv_3x3'),
  (2, 'conv_1x1'),
  (2, 'none'),
  (1, 'avg_pool_3x3'),
  (5, 'conv_1x1'),
]
NORMAL_B_CONCAT = [0, 3, 4, 6]

REDUCTION_B = [
  (0, 'max_pool_2x2'),
  (0, 'max_pool_3x3'),
  (2, 'none'),
  (1, 'conv_3x3'),
  (2, 'dilated_sep_conv_5x5'),
  (2, 'max_pool_3x3'),
  (3, 'none'),
  (1, 'sep_conv_3x3'),
  (4, 'avg_pool_3x3'),
  (3, 'conv_1x1'),
]
REDUCTION_B_CONCAT = [5, 6]


def _pool(pooling, window):
  def make(dim, stride, batch_norm):
    del dim, batch_norm
    return [
      image_layers.PoolLayer.Params().Set(
        name='pool', pooling=pooling, window=window, stride=stride
      )
    ]

  return make


def _conv_1x1(dim, stride, batch_norm):
  return [
    image_layers.ReluConvBatchNorm.Params().Set(
      name='conv',
      input_dim=dim,
      output_dim=dim,
      stride=(stride, stride),
      batch_norm=batch_norm,
    )
  ]


def _bottleneck(*windows):
  """1x1 to a quarter of the channels, the windows, 1x1 back."""

  def make(dim, stride, batch_norm):
    if dim % 4:
      raise ValueError(
        f'A bottlenecked AmoebaNet operation needs channels divisible by 4, '
        f"got {dim}: let the network's dim be a multiple of 4, and of 8 or 16 "
        f'with one or two reductions in the stem.'
      )
    block = image_layers.ReluConvBatchNorm.Params().Set(
      input_dim=dim // 4, output_dim=dim // 4, batch_norm=batch_norm
    )
    blocks = [block.Copy().Set(name='shrink', input_dim=dim)]
    for height, width in windows:
      # A 1x7 filter strides horizontally, a 7x1 one vertically.
      step = (stride if height > 1 else 1, stride if width > 1 else 1)
      blocks.append(
        block.Copy().Set(
          name=f'conv_{height}x{width}', window=(height, width), stride=step
        )
      )
    return [*blocks, block.Copy().Set(name='grow', output_dim=dim)]

  return make


def _separable(window, dilation=1):
  """Two separable convolutions, the first with the stride."""

  def make(dim, stride, batch_norm):
    block = image_layers.ReluConvBatchNorm.Params().Set(
      input_dim=dim,
      output_dim=dim,
      window=(window, window),
      separable=True,
      dilation=dilation,
      batch_norm=batch_norm,
    )
    return [
      block.Copy().Set(name='first', stride=(stride, stride)),
      block.Copy().Set(name='second'),
    ]

  return make


def _none(dim, stride, batch_norm):
  """The identity, or what comes closest to it at stride 2."""
  if stride == 1:
    return []
  return [
    image_layers.FactorizedReduction.Params().Set(
      name='reduce', input_dim=dim, output_dim=dim, batch_norm=batch_norm
    )
  ]


_OPERATIONS = {
  'none': _none,
  'avg_pool_3x3': _pool('avg', 3),
  'max_pool_2x2': _pool('max', 2),
  'max_pool_3x3': _pool('max', 3),
  'conv_1x1': _conv_1x1,
  'conv_3x3': _bottleneck((3, 3)),
  'conv_1x7_7x1': _bottleneck((1, 7), (7, 1)),
  'sep_conv_3x3': _separable(3),
  'sep_conv_5x5': _separable(5),
  'sep_conv_7x7': _separable(7),
  'dilated_sep_conv_5x5': _separable(5, dilation=2),
}

OPERATION_NAMES = tuple(sorted(_OPERATIONS))


def operation_params(
  name, operation, dim, stride, batch_norm, drop_path_params=None
):
  """Params of one operation of a cell.

  Args:
    operation: One of OPERATION_NAMES.
    stride: 1, or 2 to halve height and width.
    drop_path_params: Params of a DropPathLayer that follows the operation, or
      None. It is left out after 'none'.

  Returns:
    Params of a layer that maps [batch, h, w, dim] to
    [batch, ceil(h / stride), ceil(w / stride), dim].

  Raises:
    ValueError: if the operation is not known, or does not fit the arguments.
  """
  if operation not in _OPERATIONS:
    raise ValueError(
      f'Unknown operation {operation!r} in a cell table; known are: '
      f'{", ".join(OPERATION_NAMES)}.'
    )
  blocks = _OPERATIONS[operation](dim, stride, batch_norm)
  if drop_path_params is not None and operation != 'none':
    blocks = [*blocks, drop_path_params.Copy().Set(name='drop_path')]
  return builder_layers.SequentialLayer.Params().Set(name=name, sub=blocks)
