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

Sources: Real et al., arXiv:1802.01548; the tables as trained by GPipe are those
of github.com/kakaobrain/torchgpipe and github.com/tensorflow/tpu.
"""

import re

from lingvo.core import builder_layers

from lingvo_gpipe.models import image_layers


def _table(text):
  pairs = re.findall(r'(\d) (\w+)', text)
  return [(int(state), operation) for state, operation in pairs]


NORMAL_D = _table("""
  1 conv_1x1     + 1 max_pool_3x3
  1 none         + 0 conv_1x7_7x1
  0 conv_1x1     + 0 conv_1x7_7x1
  2 max_pool_3x3 + 2 none
  1 avg_pool_3x3 + 5 conv_1x1
""")
NORMAL_D_CONCAT = [0, 3, 4, 6]

REDUCTION_D = _table("""
  0 max_pool_2x2 + 0 max_pool_3x3
  2 none         + 1 conv_3x3
  2 conv_1x7_7x1 + 2 max_pool_3x3
  3 none         + 1 max_pool_2x2
  2 avg_pool_3x3 + 3 conv_1x1
""")
REDUCTION_D_CONCAT = [4, 5, 6]

NORMAL_B = _table("""
  1 conv_1x1     + 1 max_pool_3x3
  1 none         + 0 sep_conv_3x3
  1 conv_1x1     + 0 sep_conv_3x3
  2 conv_1x1     + 2 none
  1 avg_pool_3x3 + 5 conv_1x1
""")
NORMAL_B_CONCAT = [0, 3, 4, 6]

REDUCTION_B = _table("""
  0 max_pool_2x2 + 0 max_pool_3x3
  2 none         + 1 conv_3x3
  2 dilated_sep_conv_5x5 + 2 max_pool_3x3
  3 none         + 1 sep_conv_3x3
  4 avg_pool_3x3 + 3 conv_1x1
""")
REDUCTION_B_CONCAT = [5, 6]


def operation_params(
  name, operation, dim, stride, batch_norm, drop_path_params=None
):
  """Params of one operation, named as in the tables; windows of any size.

  At stride s, 1 or 2, it maps [batch, h, w, dim] to
  [batch, ceil(h / s), ceil(w / s), dim]. A DropPathLayer, if any is given,
  follows all but 'none'.
  """
  kind, *sizes = re.split(r'_(?=\d)', operation)
  windows = [tuple(map(int, size.split('x'))) for size in sizes]
  conv = image_layers.ReluConvBatchNorm.Params().Set(
    input_dim=dim, output_dim=dim, batch_norm=batch_norm
  )
  if kind == 'none':
    reduction = image_layers.FactorizedReduction.Params().Set(
      name='reduce', input_dim=dim, output_dim=dim, batch_norm=batch_norm
    )
    blocks = [] if stride == 1 else [reduction]
  elif kind in ('avg_pool', 'max_pool'):
    pool = image_layers.PoolLayer.Params().Set(name='pool', pooling=kind[:3])
    blocks = [pool.Set(window=windows[0][0], stride=stride)]
  elif operation == 'conv_1x1':
    blocks = [conv.Set(name='conv', stride=(stride, stride))]
  elif kind == 'conv':
    blocks = _bottleneck(conv, windows, stride)
  elif kind in ('sep_conv', 'dilated_sep_conv'):
    dilation = 1 if kind == 'sep_conv' else 2
    conv.Set(window=windows[0], separable=True, dilation=dilation)
    first = conv.Copy().Set(name='first', stride=(stride, stride))
    blocks = [first, conv.Set(name='second')]
  else:
    raise ValueError(
      f'Unknown operation {operation!r} in a cell table; known are: none, '
      'avg_pool_NxN, max_pool_NxN, sep_conv_NxN, dilated_sep_conv_NxN, '
      'conv_HxW, conv_HxW_HxW.'
    )
  if drop_path_params is not None and kind != 'none':
    blocks = [*blocks, drop_path_params.Copy().Set(name='drop_path')]
  return builder_layers.SequentialLayer.Params().Set(name=name, sub=blocks)


def _bottleneck(conv, windows, stride):
  dim = conv.input_dim
  block = conv.Copy().Set(input_dim=dim // 4, output_dim=dim // 4)
  blocks = [block.Copy().Set(name='shrink', input_dim=dim)]
  for height, width in windows:
    # A 1x7 filter strides horizontally, a 7x1 one vertically.
    step = (stride if height > 1 else 1, stride if width > 1 else 1)
    blocks.append(
      block.Copy().Set(
        name=f'conv_{height}x{width}', window=(height, width), stride=step
      )
    )
  return [*blocks, block.Set(name='grow', output_dim=dim)]
