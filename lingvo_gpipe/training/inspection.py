# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The trainer's modes that train nothing: they say what they wrote, and where.

Lingvo's say so in the log only.
"""

import os

import lingvo.compat as tf
from lingvo import datasets
from lingvo import trainer as lingvo_trainer

from lingvo_gpipe.training import jobs, user_error

FLAGS = tf.flags.FLAGS


class InspectingManager(lingvo_trainer.RunnerManager):
  """Lingvo's `RunnerManager`, which says what these modes did."""

  def InspectParams(self):
    """Writes the Params of all datasets or the flag's; UserError if unknown."""
    names = datasets.GetDatasets(self.model_registry.GetClass(self._model_name))
    chosen = FLAGS.inspect_params_dataset_name or names
    for name in chosen:
      if name not in names:
        raise user_error.UserError(
          f'--inspect_params_dataset_name={name}: the model has no such '
          f'dataset. {jobs.nearest(name, names)}'
        )
    super().InspectParams()
    for name in chosen:
      file = os.path.join(FLAGS.logdir, f'{name.lower()}-params.txt')
      print(f'Params for {name}: {file}', flush=True)

  def WriteInferenceGraph(self, cfg=None, prune_graph=True):
    """Writes the model's inference graphs; UserError if it has none."""
    directory = os.path.join(FLAGS.logdir, 'inference_graphs')
    before = _times(directory)
    graph = super().WriteInferenceGraph(cfg, prune_graph)
    after = _times(directory)
    written = [file for file in after if after[file] != before.get(file)]
    if not written:
      raise user_error.UserError(
        '--mode=write_inference_graph: nothing is written, the model has no '
        'inference graph; its task would have to define Inference().'
      )
    for file in [*written, *(FLAGS.graph_def_filename or [])]:
      print(f'Inference graph: {file}', flush=True)
    return graph


def _times(directory):
  """When each file of a directory was written, by its path."""
  if not tf.io.gfile.exists(directory):
    return {}
  files = [
    os.path.join(directory, name)
    for name in sorted(tf.io.gfile.listdir(directory))
  ]
  return {file: tf.io.gfile.stat(file).mtime_nsec for file in files}
