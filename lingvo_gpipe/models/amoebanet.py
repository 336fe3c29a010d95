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
cells passes two tensors on: the cell's output and its own first input. The
first cell gets the stem's output in both places, and the last cell passes on
only its output.

Sources: Real et al., Regularized Evolution for Image Classifier Architecture
Search, arXiv:1802.01548; Huang et al., GPipe, arXiv:1811.06965. Dimensions of
stem, reductions and bottlenecks as in torchgpipe's AmoebaNet-D.
"""

import lingvo.compat as tf
from lingvo.core import base_layer, hyperparams, layers, py_utils

from lingvo_gpipe.models import (
  amoebanet_tables,
  batch_norm,
  drop_path,
  image_layers,
)


class AmoebaNetStem(base_layer.BaseLayer):
  """3x3 convolution, batch norm: from an image to features.

  It has no ReLU, unlike the other blocks: a ReLU would map all that is darker
  than the middle of the images' range to one value. slim's NASNet, which has
  the same skeleton as AmoebaNet, has none there; torchgpipe's AmoebaNet-D has
  one.
  """

  @classmethod
  def Params(cls):
    p = super().Params()
    p.Define('input_dim', 3, 'Channels of the image.')
    p.Define('output_dim', 0, 'Channels of the output.')
    p.Define('stride', 2, 'Step of the convolution in both directions.')
    p.Define(
      'batch_norm', batch_norm.FusedBatchNormLayer.Params(), 'Batch norm.'
    )
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    self.CreateChild(
      'conv',
      image_layers.ReluConvBatchNorm.Params().Set(
        input_dim=p.input_dim,
        output_dim=p.output_dim,
        window=(3, 3),
        stride=(p.stride, p.stride),
        relu=False,
        batch_norm=p.batch_norm,
      ),
    )

  def FProp(self, theta, images):
    """Maps [batch, h, w, input_dim] to [batch, h / s, w / s, output_dim]."""
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
    p.Define(
      'follows_reduction',
      False,
      'The previous cell was a reduction, so the output of the cell before it '
      'has twice the height and width of the previous output.',
    )
    p.Define('operations', [], 'Ten (state, operation) pairs.')
    p.Define('concat', [], 'States whose concatenation is the output.')
    p.Define('hand_on_input', True, 'Also return the input.')
    p.Define(
      'batch_norm', batch_norm.FusedBatchNormLayer.Params(), 'Batch norm.'
    )
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
      self.CreateChild(
        'preprocess_before',
        image_layers.FactorizedReduction.Params().Set(
          input_dim=p.before_dim, output_dim=p.dim, batch_norm=p.batch_norm
        ),
      )
    elif p.before_dim != p.dim:
      self.CreateChild(
        'preprocess_before', conv.Copy().Set(input_dim=p.before_dim)
      )
    self.CreateChildren(
      'operation',
      [
        amoebanet_tables.operation_params(
          f'{i}_{operation}',
          operation,
          p.dim,
          2 if p.reduction and state < 2 else 1,
          p.batch_norm,
          p.drop_path,
        )
        for i, (state, operation) in enumerate(p.operations)
      ],
    )

  @classmethod
  def CostParams(cls, p):
    """Params of a cell that costs the same, whatever its depth."""
    p = p.Copy()
    if p.drop_path is not None:
      p.drop_path.keep_prob = 0.5
    return p

  def _CheckTable(self):
    p = self.params
    if not p.operations or len(p.operations) % 2:
      raise ValueError(
        f'{p.name}: operations must be an even number of (state, operation) '
        f'pairs, got {len(p.operations)}.'
      )
    for i, (state, operation) in enumerate(p.operations):
      if not 0 <= state < 2 + i // 2:
        raise ValueError(
          f'{p.name}: operations[{i}] = ({state}, {operation!r}) reads state '
          f'{state}, but only states 0 to {1 + i // 2} exist by then.'
        )
    num_states = 2 + len(p.operations) // 2
    lowest = 2 if p.reduction else 0
    for state in p.concat:
      if not lowest <= state < num_states:
        raise ValueError(
          f'{p.name}: concat names state {state}; this cell can put out '
          f'states {lowest} to {num_states - 1}.'
        )
    if not p.concat:
      raise ValueError(f'{p.name}: concat must name at least one state.')

  def FProp(self, theta, inputs, before=None):
    """Computes the cell.

    Args:
      inputs: The previous cell's output, [batch, h, w, input_dim].
      before: The output of the cell before it, [batch, h, w, before_dim], or
        [batch, 2 h, 2 w, before_dim] with `follows_reduction`. None stands
        for `inputs`.

    Returns:
      A tensor [batch, h, w, dim * len(concat)], h and w halved if this is a
      reduction; with `hand_on_input` a pair of that and `inputs`.
    """
    p = self.params
    if before is None:
      before = inputs
    with tf.name_scope(p.name):
      states = [self.preprocess.FProp(theta.preprocess, inputs), before]
      if 'preprocess_before' in self.children:
        states[1] = self.preprocess_before.FProp(
          theta.preprocess_before, before
        )
      results = []
      for i, (state, _) in enumerate(p.operations):
        results.append(
          self.operation[i].FProp(theta.operation[i], states[state])
        )
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
    p.Define(
      'dropout',
      layers.DeterministicDropoutLayer.Params(),
      'Dropout before the linear layer; keep_prob 1 turns it off.',
    )
    return p

  def __init__(self, params):
    super().__init__(params)
    p = self.params
    self.CreateChild('dropout', p.dropout)
    self.CreateChild(
      'linear',
      layers.ProjectionLayer.Params().Set(
        params_init=py_utils.WeightInit.TruncatedGaussianSqrtFanIn(1.0),
        input_dim=p.input_dim,
        output_dim=p.num_classes,
        has_bias=True,
        batch_norm=False,
        activation='NONE',
      ),
    )

  def FProp(self, theta, inputs, before=None):
    """Maps [batch, h, w, input_dim] to float32 logits [batch, num_classes]."""
    del before
    with tf.name_scope(self.params.name):
      features = tf.reduce_mean(inputs, [1, 2])
      features = self.dropout.FProp(theta.dropout, features)
      logits = self.linear.FProp(theta.linear, features)
      return tf.cast(logits, tf.float32)


def AmoebaNetParams():
  """Params for `AmoebaNetLayers` of a whole network, AmoebaNet-D by default."""
  p = hyperparams.Params()
  p.Define('num_normal_cells', 18, 'L of the papers; divisible by 3.')
  p.Define('dim', 256, 'D of the papers: channels of the first normal cells.')
  p.Define('num_classes', 1000, 'Number of classes.')
  p.Define('input_dim', 3, 'Channels of the images.')
  p.Define(
    'stem_dim', 0, 'Channels of the first convolution; 0 stands for dim / 4.'
  )
  p.Define('stem_stride', 2, 'Step of the first convolution.')
  p.Define(
    'num_stem_reductions', 2, 'Reduction cells before the first normal cell.'
  )
  p.Define('normal', amoebanet_tables.NORMAL_D, 'Table of normal cells.')
  p.Define(
    'normal_concat', amoebanet_tables.NORMAL_D_CONCAT, 'Their output states.'
  )
  p.Define(
    'reduction', amoebanet_tables.REDUCTION_D, 'Table of reduction cells.'
  )
  p.Define(
    'reduction_concat',
    amoebanet_tables.REDUCTION_D_CONCAT,
    'Their output states.',
  )
  p.Define(
    'batch_norm',
    batch_norm.FusedBatchNormLayer.Params().Set(
      add_stats_to_moving_average_variables=True
    ),
    'Batch norm of all layers.',
  )
  p.Define(
    'drop_path',
    drop_path.DropPathLayer.Params(),
    'Drop path of all operations but none; keep_prob 1 turns it off.',
  )
  p.Define(
    'drop_path_by_depth',
    True,
    'Let the probability of keeping a path fall linearly over the cells, to '
    'drop_path.keep_prob in the last one.',
  )
  p.Define('dropout_keep_prob', 1.0, 'Dropout before the linear layer.')
  return p


def AmoebaNetB():
  """`AmoebaNetParams` with the cells of AmoebaNet-B."""
  return AmoebaNetParams().Set(
    normal=amoebanet_tables.NORMAL_B,
    normal_concat=amoebanet_tables.NORMAL_B_CONCAT,
    reduction=amoebanet_tables.REDUCTION_B,
    reduction_concat=amoebanet_tables.REDUCTION_B_CONCAT,
  )


def AmoebaNetLayers(p):
  """Params of a network's layers, in order.

  Returns:
    A list: the stem, num_stem_reductions reduction cells, three equal runs of
    normal cells with a reduction cell between two runs, the classifier. Each
    layer's FProp takes what the FProp before it returned, and has a name of
    its own, so that variable names do not depend on how the list is cut.

  Raises:
    ValueError: if num_normal_cells or dim do not fit the structure.
  """
  _CheckNetwork(p)
  run = ['normal'] * (p.num_normal_cells // 3)
  kinds = ['reduction'] * p.num_stem_reductions
  kinds += run + ['reduction'] + run + ['reduction'] + run

  stem_dim = p.stem_dim or p.dim // 4
  # Channels of the latest output and of the one before it.
  input_dim, before_dim = stem_dim, stem_dim
  dim = p.dim // 2**p.num_stem_reductions
  result = [
    AmoebaNetStem.Params().Set(
      name='stem',
      input_dim=p.input_dim,
      output_dim=stem_dim,
      stride=p.stem_stride,
      batch_norm=p.batch_norm,
    )
  ]
  numbers = {'normal': 0, 'reduction': 0}
  for i, kind in enumerate(kinds):
    reduction = kind == 'reduction'
    if reduction:
      dim *= 2
    cell = AmoebaNetCell.Params().Set(
      name=f'{kind}_{numbers[kind]}',
      input_dim=input_dim,
      before_dim=before_dim,
      dim=dim,
      reduction=reduction,
      follows_reduction=i > 0 and kinds[i - 1] == 'reduction',
      operations=p.reduction if reduction else p.normal,
      concat=p.reduction_concat if reduction else p.normal_concat,
      hand_on_input=i + 1 < len(kinds),
      batch_norm=p.batch_norm,
      drop_path=_CellDropPath(p, (i + 1) / len(kinds)),
    )
    numbers[kind] += 1
    input_dim, before_dim = dim * len(cell.concat), input_dim
    result.append(cell)
  result.append(
    AmoebaNetClassifier.Params().Set(
      name='classifier',
      input_dim=input_dim,
      num_classes=p.num_classes,
      dropout=layers.DeterministicDropoutLayer.Params().Set(
        keep_prob=p.dropout_keep_prob
      ),
    )
  )
  return result


def _CheckNetwork(p):
  if p.num_normal_cells < 3 or p.num_normal_cells % 3:
    raise ValueError(
      'AmoebaNet: num_normal_cells must be a positive multiple of 3 (three '
      f'runs of equal length), got {p.num_normal_cells}.'
    )
  if p.stem_dim < 0:
    raise ValueError(
      f'AmoebaNet: stem_dim must be 0 or more (0 stands for dim / 4), got '
      f'{p.stem_dim}.'
    )
  divisor = 4 * 2 ** max(p.num_stem_reductions - 1, 0)
  if p.dim < divisor or p.dim % divisor:
    raise ValueError(
      f'AmoebaNet: dim must be a positive multiple of {divisor} with '
      f'num_stem_reductions={p.num_stem_reductions}, got {p.dim}.'
    )


def _CellDropPath(p, depth):
  """Drop path of the cell at `depth`, in (0, 1]; None if it drops nothing."""
  if p.drop_path.keep_prob == 1.0:
    return None
  result = p.drop_path.Copy()
  if p.drop_path_by_depth:
    result.keep_prob = 1.0 - depth * (1.0 - p.drop_path.keep_prob)
  return result
