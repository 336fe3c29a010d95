# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""AmoebaNet as a list of layers that a pipeline can cut anywhere.

      stem      cells: normal or reduction                   classifier
    +------+   +--------+      +--------+          +--------+   +-------+
    |      |-->|        |--y0->|        |--y1-> .. |        |-->|       |
    |      | x |        |      |        |          |        | y |       |
    +------+   |        |--x-->|        |--y0-> .. |        |   +-------+
               +--------+      +--------+          +--------+

A cell reads the outputs of the two cells before it, so every boundary between
cells passes two tensors on: the cell's output and its own first input.

Sources: Real et al., arXiv:1802.01548; Huang et al., GPipe, arXiv:1811.06965.
Stem, reductions and bottlenecks are as wide as in torchgpipe's AmoebaNet-D.
"""

import lingvo.compat as tf
from lingvo.core import base_layer, hyperparams, layers, py_utils

from lingvo_gpipe.models import amoebanet_tables as tables
from lingvo_gpipe.models import image_layers
from lingvo_gpipe.models.batch_norm import FusedBatchNormLayer


class AmoebaNetStem(base_layer.BaseLayer):
  """3x3 convolution and batch norm: from an image to features.

  No ReLU: it would map all that is darker than the middle to one value.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    conv = image_layers.ReluConvBatchNorm.Params()
    p.Define('conv', conv.Set(window=(3, 3), relu=False), 'Its Params.')
    return p

  def __init__(self, params):
    super().__init__(params)
    self.CreateChild('conv', self.params.conv)

  def FProp(self, theta, images):
    """Maps [batch, h, w, channels] to [batch, h / s, w / s, output_dim]."""
    return self.conv.FProp(theta.conv, self._CastToFPropDtype(images))


class AmoebaNetCell(base_layer.BaseLayer):
  """One cell of the network, as its table describes it."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('input_dim', 0, "Channels of the previous cell's output.")
    p.Define('before_dim', 0, 'Channels of the output of the cell before it.')
    p.Define('dim', 0, 'Channels of the states in this cell.')
    p.Define('reduction', False, 'Halve height and width in this cell.')
    p.Define('follows_reduction', False, 'The previous cell was a reduction.')
    p.Define('operations', [], 'Ten (state, operation) pairs.')
    p.Define('concat', [], 'States whose concatenation is the output.')
    p.Define('hand_on_input', True, 'Also return the input.')
    p.Define('batch_norm', FusedBatchNormLayer.Params(), 'Batch norm.')
    p.Define('drop_path', None, 'Params of a DropPathLayer, or None.')
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    self._CheckTable()
    conv = image_layers.ReluConvBatchNorm.Params().Set(
      output_dim=p.dim, batch_norm=p.batch_norm
    )
    self.CreateChild('preprocess', conv.Copy().Set(input_dim=p.input_dim))
    if p.follows_reduction:
      conv = image_layers.FactorizedReduction.Params().Set(
        output_dim=p.dim, batch_norm=p.batch_norm
      )
    if p.follows_reduction or p.before_dim != p.dim:
      self.CreateChild('preprocess_before', conv.Set(input_dim=p.before_dim))
    operations = []
    for i, (state, operation) in enumerate(p.operations):
      stride = 2 if p.reduction and state < 2 else 1
      name = f'{i}_{operation}'
      operations.append(
        tables.operation_params(
          name, operation, p.dim, stride, p.batch_norm, p.drop_path
        )
      )
    self.CreateChildren('operation', operations)

  @classmethod
  def CostParams(cls, p):
    p = p.Copy()
    if p.drop_path is not None:
      p.drop_path.keep_prob = 0.5
    return p

  def _CheckTable(self):
    p = self.params
    for i, (state, operation) in enumerate(p.operations):
      if not 0 <= state < 2 + i // 2:
        raise ValueError(
          f'{p.name}: operations[{i}] = ({state}, {operation!r}) reads state '
          f'{state}, but only states 0 to {1 + i // 2} exist by then.'
        )
    first, last = 2 if p.reduction else 0, 1 + len(p.operations) // 2
    if not p.concat or not first <= min(p.concat) <= max(p.concat) <= last:
      raise ValueError(
        f'{p.name}: concat must be some of the states {first} to {last}, got '
        f'{p.concat}.'
      )

  def FProp(self, theta, inputs, before=None):
    """Maps [batch, h, w, input_dim] to [batch, h, w, dim * len(concat)].

    `before` is the output of the cell before the previous one, its h and w
    doubled with `follows_reduction`; None stands for `inputs`. A reduction
    halves h and w. With `hand_on_input` the result is (output, inputs).
    """
    p = self.params
    if before is None:
      before = inputs
    with tf.name_scope(p.name):
      states = [self.preprocess.FProp(theta.preprocess, inputs)]
      if 'preprocess_before' in self.children:
        before = self.preprocess_before.FProp(theta.preprocess_before, before)
      states.append(before)
      results = []
      for i, (state, _) in enumerate(p.operations):
        layer = self.operation[i]
        results.append(layer.FProp(theta.operation[i], states[state]))
        if i % 2:
          states.append(results[i - 1] + results[i])
      output = tf.concat([states[state] for state in p.concat], -1)
    return (output, inputs) if p.hand_on_input else output


class AmoebaNetClassifier(base_layer.BaseLayer):
  """Mean over all pixels, then a linear layer to the classes."""

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('input_dim', 0, 'Channels of the input.')
    p.Define('num_classes', 0, 'Number of classes.')
    p.Define('dropout', layers.DeterministicDropoutLayer.Params(), 'Dropout.')
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    self.CreateChild('dropout', p.dropout)
    linear = layers.ProjectionLayer.Params().Set(
      params_init=py_utils.WeightInit.TruncatedGaussianSqrtFanIn(1.0),
      input_dim=p.input_dim,
      output_dim=p.num_classes,
      has_bias=True,
      batch_norm=False,
      activation='NONE',
    )
    self.CreateChild('linear', linear)

  def FProp(self, theta, inputs, before=None):
    """Maps [batch, h, w, input_dim] to float32 logits [batch, num_classes]."""
    del before
    with tf.name_scope(self.params.name):
      features = tf.reduce_mean(inputs, [1, 2])
      features = self.dropout.FProp(theta.dropout, features)
      logits = self.linear.FProp(theta.linear, features)
      return tf.cast(logits, tf.float32)


def AmoebaNetParams():
  """Params for `AmoebaNetLayers`: AmoebaNet-D by default."""
  p = hyperparams.Params()
  p.Define('num_normal_cells', 18, 'L of the papers; divisible by 3.')
  p.Define('dim', 256, 'D of the papers: channels of the first normal cells.')
  p.Define('num_classes', 1000, 'Number of classes.')
  p.Define('input_dim', 3, 'Channels of the images.')
  p.Define('stem_dim', 0, 'Channels of the first convolution; 0: dim / 4.')
  p.Define('stem_stride', 2, 'Step of the first convolution.')
  p.Define('num_stem_reductions', 2, 'Reductions before the first normal cell.')
  p.Define('normal', tables.NORMAL_D, 'Table of normal cells.')
  p.Define('normal_concat', tables.NORMAL_D_CONCAT, 'Their output states.')
  p.Define('reduction', tables.REDUCTION_D, 'Table of reduction cells.')
  p.Define('reduction_concat', tables.REDUCTION_D_CONCAT, 'Theirs.')
  norm = FusedBatchNormLayer.Params()
  norm.add_stats_to_moving_average_variables = True
  p.Define('batch_norm', norm, 'Batch norm of all layers.')
  drop_path = image_layers.DropPathLayer.Params()
  p.Define(
    'drop_path', drop_path, "keep_prob is the last cell's; it falls linearly."
  )
  p.Define('dropout_keep_prob', 1.0, 'Dropout before the linear layer.')
  return p


def AmoebaNetB():
  return AmoebaNetParams().Set(
    normal=tables.NORMAL_B,
    normal_concat=tables.NORMAL_B_CONCAT,
    reduction=tables.REDUCTION_B,
    reduction_concat=tables.REDUCTION_B_CONCAT,
  )


def AmoebaNetLayers(p):
  """Params of a network's layers, in order.

  They are the stem, num_stem_reductions reduction cells, three equal runs of
  normal cells with a reduction cell between two runs, the classifier.
  """
  _CheckNetwork(p)
  run = ['normal'] * (p.num_normal_cells // 3)
  kinds = ['reduction'] * p.num_stem_reductions
  kinds += run + ['reduction'] + run + ['reduction'] + run

  stem = AmoebaNetStem.Params().Set(name='stem')
  stem.conv.Set(
    input_dim=p.input_dim,
    output_dim=p.stem_dim or p.dim // 4,
    stride=(p.stem_stride, p.stem_stride),
    batch_norm=p.batch_norm,
  )
  input_dim = before_dim = stem.conv.output_dim
  dim = p.dim // 2**p.num_stem_reductions
  result = [stem]
  for i, kind in enumerate(kinds):
    reduction = kind == 'reduction'
    if reduction:
      dim *= 2
    cell = AmoebaNetCell.Params().Set(
      name=f'{kind}_{kinds[:i].count(kind)}',
      input_dim=input_dim,
      before_dim=before_dim,
      dim=dim,
      reduction=reduction,
      follows_reduction=i > 0 and kinds[i - 1] == 'reduction',
      operations=p.reduction if reduction else p.normal,
      concat=p.reduction_concat if reduction else p.normal_concat,
      hand_on_input=i + 1 < len(kinds),
      batch_norm=p.batch_norm,
    )
    if p.drop_path.keep_prob < 1.0:
      cell.drop_path = p.drop_path.Copy()
      dropped = (i + 1) / len(kinds) * (1.0 - p.drop_path.keep_prob)
      cell.drop_path.keep_prob = 1.0 - dropped
    input_dim, before_dim = dim * len(cell.concat), input_dim
    result.append(cell)
  classifier = AmoebaNetClassifier.Params().Set(
    name='classifier', input_dim=input_dim, num_classes=p.num_classes
  )
  classifier.dropout.keep_prob = p.dropout_keep_prob
  return [*result, classifier]


def _CheckNetwork(p):
  if p.num_normal_cells < 3 or p.num_normal_cells % 3:
    raise ValueError(
      'AmoebaNet: num_normal_cells must be a positive multiple of 3 (three '
      f'runs of equal length), got {p.num_normal_cells}.'
    )
  divisor = 4 * 2 ** max(p.num_stem_reductions - 1, 0)
  if p.dim < divisor or p.dim % divisor:
    raise ValueError(
      f'AmoebaNet: dim must be a positive multiple of {divisor} with '
      f'num_stem_reductions={p.num_stem_reductions}, got {p.dim}.'
    )
