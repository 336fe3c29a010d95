# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lingvo's checkpointer, which also saves where the training ends."""

import lingvo.compat as tf
from lingvo.core import checkpointer

from lingvo_gpipe.training import user_error


class TrainingCheckpointer(checkpointer.Checkpointer):
  """Saves after the last step too, and says so if a checkpoint doesn't fit.

  Lingvo's trainer saves only when the interval has passed, so the steps since
  then would be lost when it ends. And Lingvo's saver restores a weight of any
  shape, which comes to light as an error in some layer.
  """

  def __init__(self, *args, **kwargs):
    # Before the saver, which may add variables that it does not save.
    self._variables = tf.global_variables()
    super().__init__(*args, **kwargs)

  @property
  def async_checkpointing(self):
    """No: it takes a copy of every variable, and the trainer waits anyway."""
    return False

  def ShouldSave(self, gsteps):
    """Whether to save after `gsteps` steps, an int."""
    last = gsteps >= self._train_params.max_steps
    return (last and self._prev_ckpt_step != gsteps) or super().ShouldSave(
      gsteps
    )

  def RestoreFromPath(self, sess=None, checkpoint_path=None):
    """Restores from a checkpoint.

    Args:
      sess: A `tf.Session`.
      checkpoint_path: The checkpoint's path, without a suffix.

    Returns:
      `checkpoint_path`.

    Raises:
      UserError: if the checkpoint lacks a variable of the model, or has it in
        another shape.
    """
    self._CheckThatItFits(checkpoint_path)
    return super().RestoreFromPath(sess, checkpoint_path)

  def _CheckThatItFits(self, path):
    shapes = tf.train.load_checkpoint(path).get_variable_to_shape_map()
    for variable in self._variables:
      name, shape = variable.op.name, variable.shape.as_list()
      if name not in shapes:
        problem = f'it has no variable {name}'
      elif shapes[name] != shape:
        problem = f'{name} has shape {shapes[name]}, the model has {shape}'
      else:
        continue
      raise user_error.UserError(
        f'{path} is a checkpoint of another model ({problem}); choose another '
        '--logdir.'
      )
