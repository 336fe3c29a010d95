# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""What --mode and --job can be, known without TensorFlow but for datasets."""

import re

from lingvo_gpipe.training import user_error

MODES = (
  'sync',
  'async',
  'inspect_params',
  'inspect_model',
  'inspect_evaler',
  'inspect_decoder',
  'write_inference_graph',
  'shell',
)
_JOBS = (
  'trainer_client',
  'controller',
  'worker',
  'evaler_Test',
  'decoder_Test',
  'evaler_once_Test@100',
  'trainer',
  'train_summaries',
  'ps',
  'input',
  'executor_tpu',
  'host_driven_executor_tpu',
)
_OF_A_DATASET = re.compile(
  r'evaler_once_([^_@]+)@\d+|(?!evaler_once_)(?:evaler|decoder)_(.+)'
)


def nearest(wrong, names):
  """'Nearest: a, b.' of `names`, or all of them if none is near."""
  return user_error.nearest(wrong, names) or f'There are: {", ".join(names)}.'


def dataset_of(job):
  """The dataset that a job such as 'evaler_Test' evaluates; '' if none."""
  match = _OF_A_DATASET.fullmatch(job)
  return (match[1] or match[2]) if match else ''


def check_mode(mode):
  """Raises UserError if there is no --mode like `mode`."""
  if mode not in MODES:
    raise user_error.UserError(
      f'--mode={mode}: no such mode. {nearest(mode, MODES)}'
    )


def check_names(jobs, flag='job'):
  """Raises UserError if one of the flag's `jobs`, with commas, is none."""
  for job in filter(None, jobs.split(',')):
    if job not in _JOBS and not dataset_of(job):
      raise user_error.UserError(
        f'--{flag}={jobs}: no such job as {job!r}. {nearest(job, _JOBS)}'
      )


def check_datasets(model, jobs, flag='job'):
  """Raises UserError if a model lacks the dataset of one of the flag's jobs."""
  from lingvo import datasets, model_registry
  from lingvo.core import base_model_params

  params = model_registry.GetClass(model)()
  for job in jobs.split(','):
    dataset = dataset_of(job)
    if not dataset:
      continue
    try:
      params.GetDatasetParams(dataset)
    except base_model_params.DatasetError as error:
      names = datasets.GetDatasets(params)
      raise user_error.UserError(
        f'--{flag}={jobs}: the model has no dataset {dataset!r}. '
        f'{nearest(dataset, names)}'
      ) from error
