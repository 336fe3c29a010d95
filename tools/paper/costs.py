# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Costs of the paper's models, from their own layers as they are registered."""

import functools

from tools.paper.model_costs import ModelCosts


@functools.cache
def model_costs(model: str, precision: str = '') -> ModelCosts:
  """What the layers of a registered model cost: FLOPs and bytes.

  Each kind of layer is traced once; nothing is allocated. What was found is
  kept for the rest of the process.

  Args:
    model: The name it is registered under.
    precision: The dtype of its activations, 'float32' or 'bfloat16'; '' is the
      model's own.

  Raises:
    UserError: There is no such model, or it has no GPipeSequentialLayer.
  """
  import lingvo.compat as tf

  from lingvo_gpipe import sequential_layer
  from lingvo_gpipe.planner import plan_command

  params = plan_command.pipeline_params(model)
  params.Set(num_partitions=1, splits=[], device_memory=0, balance='flops')
  if precision:
    params.fprop_dtype = tf.as_dtype(precision)
  partition = sequential_layer.GPipeSequentialLayer.Plan(params, 1).partition
  examples = partition.spec.micro_batch_size
  assert examples is not None  # These models have input_shapes.
  return ModelCosts(partition.layers, examples, partition.spec.input_bytes)
