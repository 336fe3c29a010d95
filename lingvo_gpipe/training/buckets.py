# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether each bucket of an input has an example for every micro-batch.

Sequences of different lengths come in buckets, each with a batch size of its
own. The size of a batch is then known only when a step runs, and training needs
at least one example in a micro-batch.
"""

from lingvo_gpipe.training import pipeline_report, user_error


def check(model):
  """Checks the inputs of a model that is built for training.

  Raises:
    UserError: A bucket has fewer examples than a pipeline has micro-batches.
  """
  for task in model.tasks:
    limits = _batch_limits(task.params.input)
    for pipeline in pipeline_report.pipelines(task):
      if pipeline.schedule is not None and limits:
        _check(pipeline, limits)


def _batch_limits(params):
  """Each bucket's batch size and, for messages, its name."""
  if params is None or 'bucket_batch_limit' not in params:
    return []
  bounds = params.bucket_upper_bound
  return [
    (limit, f'bucket {i} (bucket_upper_bound {bound})')
    for i, (limit, bound) in enumerate(
      zip(params.bucket_batch_limit, bounds, strict=False)
    )
  ]


def _check(pipeline, limits):
  # Where the batch is known when the graph is built, M fits already.
  count = pipeline.schedule.num_micro_batches
  limit, name = min(limits)
  if limit < count:
    raise user_error.UserError(
      f'{pipeline.path}: num_micro_batches (--micro_batches) is {count}, but '
      f'{name} of the input has batches of {limit} examples '
      '(bucket_batch_limit): too few to train with. Set num_micro_batches to '
      f'{limit} or less, or that bucket_batch_limit to {count} or more.'
    )
