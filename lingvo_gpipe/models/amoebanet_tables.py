# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cell tables of the AmoebaNet family.

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
