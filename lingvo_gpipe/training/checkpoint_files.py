# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""The files of checkpoints: which are whole, and what a kill leaves behind.

A checkpoint counts once the file `checkpoint` names it. That file is replaced
in one piece, after all else has been written:

    ckpt-00000020_temp/part-...    the tensors of each device
    ckpt-00000020.data-...         those files, moved
    ckpt-00000020.index            what is where, with checksums
    ckpt-00000020.meta             the graph
    checkpoint                     "ckpt-00000020 is the newest"  <-- it counts
    ckpt-00000010.*                no longer kept, so removed

A process killed at any of these lines leaves a `checkpoint` whose files are
whole.
"""

import contextlib
import os
import re

import lingvo.compat as tf

_STATE = 'checkpoint'
# What reading a damaged or missing file raises, from Python and from a session.
DAMAGE_ERRORS = (
  tf.errors.DataLossError,
  tf.errors.NotFoundError,
  tf.errors.OutOfRangeError,
)


def step_of(path):
  """The global step of a checkpoint's path, an int."""
  return int(path.rpartition('-')[2])


def written_at(path):
  """Changes when a checkpoint is replaced; None if there is none."""
  try:
    return tf.io.gfile.stat(path + '.index').mtime_nsec
  except tf.errors.OpError:
    return None


def newest_first(directory):
  """Paths of the checkpoints that count, without suffix, the newest first.

  If the file `checkpoint` can't be read, they are those with an index file.
  """
  if not tf.io.gfile.exists(os.path.join(directory, _STATE)):
    return []
  try:
    state = tf.train.get_checkpoint_state(directory)
  except ValueError:  # It names none, or is no text.
    state = None
  if state is None:
    names = [
      name.removesuffix('.index')
      for name in tf.io.gfile.listdir(directory)
      if name.endswith('.index')
    ]
  else:
    paths = [state.model_checkpoint_path, *state.all_model_checkpoint_paths]
    # The directory may have been moved: it names them by their paths.
    names = {os.path.basename(path) for path in paths}
  names = [name for name in names if re.search(r'-\d+$', name)]
  names.sort(key=step_of, reverse=True)
  return [os.path.join(directory, name) for name in names]


def shapes(path):
  """Shapes of a checkpoint's tensors by name; None if its index is damaged."""
  try:
    return tf.train.load_checkpoint(path).get_variable_to_shape_map()
  # TensorFlow raises its bare OpError for some damages.
  except (tf.errors.OpError, ValueError):
    return None


def keep_only(directory, paths):
  """Makes `paths`, oldest first, the checkpoints that count.

  The files of others stay; a later checkpoint of that step replaces them.
  """
  times = [tf.io.gfile.stat(path + '.index').mtime_nsec / 1e9 for path in paths]
  tf.tf1.train.update_checkpoint_state(
    directory,
    paths[-1],
    paths,
    all_model_checkpoint_timestamps=times,
    last_preserved_timestamp=times[-1],
  )


def remove_unfinished(directory):
  """Removes what a process left that was killed while it wrote a checkpoint."""
  for name in _list(directory):
    if re.fullmatch(r'ckpt-\d+_temp/?', name) or name.startswith(_STATE + '.'):
      _remove(os.path.join(directory, name))


def remove_step(directory, step):
  """Removes the files of a checkpoint that could not be written.

  Does nothing if the checkpoint counts.
  """
  path = os.path.join(directory, f'ckpt-{step:08d}')
  if path in newest_first(directory):
    return
  for name in _list(directory):
    if re.match(rf'ckpt-{step:08d}[._]', name):
      _remove(os.path.join(directory, name))


def _list(directory):
  try:
    return tf.io.gfile.listdir(directory)
  except tf.errors.NotFoundError:
    return []


def _remove(path):
  with contextlib.suppress(tf.errors.OpError):
    if tf.io.gfile.isdir(path):
      tf.io.gfile.rmtree(path)
    else:
      tf.io.gfile.remove(path)
