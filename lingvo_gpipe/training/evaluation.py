# Copyright 2026 The lingvo_gpipe Authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluates and decodes checkpoints, while a training writes them.

    in the directory    10  20  30, damaged
    the newest          30 can't be read: a warning, then 20
    every one           10, 20; of 30 a warning

A checkpoint that was damaged is looked at again once it has been replaced: a
training that continues from an earlier one writes its step anew.
"""

import os
import time

from lingvo import runners as lingvo_runners
from lingvo.core import base_model, py_utils

from lingvo_gpipe.training import (
  checkpoint_files,
  checkpoints,
  listeners,
  logs,
  runners,
  user_error,
)

_POLL_SECONDS = 1.0


class CheckpointFollower:
  """Finds the checkpoints that a job is to run on.

  Args:
    processed: Paths of those that the job has run on before; the directory may
      have been moved since.
    every: Whether to take all, the oldest first, or only the newest.
  """

  def __init__(self, directory, processed=(), every=False):
    self._directory = directory
    self._processed = {os.path.basename(path) for path in processed}
    self._every = every
    self._damaged = {}

  @property
  def newest_step(self):
    """The step of the newest checkpoint, damaged or not; 0 if there is none."""
    paths = checkpoint_files.newest_first(self._directory)
    return checkpoint_files.step_of(paths[0]) if paths else 0

  def next(self):
    """The path to run on next, None for now; UserError if all are damaged."""
    paths = checkpoint_files.newest_first(self._directory)
    whole = [path for path in paths if not self._is_damaged(path)]
    if paths and not whole:
      raise user_error.UserError(
        f'Every checkpoint in {self._directory} is damaged; copy a whole one '
        'there, or train again in another --logdir.'
      )
    wanted = whole[::-1] if self._every else whole[:1]
    return next(
      (p for p in wanted if os.path.basename(p) not in self._processed), None
    )

  def done(self, path):
    """The job has run on a checkpoint."""
    self._processed.add(os.path.basename(path))

  def leave_out(self, path, problem):
    """A checkpoint could not be read; `problem` says why, without full stop."""
    self._damaged[path] = checkpoint_files.written_at(path)
    # The training may just have removed it.
    if path in checkpoint_files.newest_first(self._directory):
      otherwise = 'it is left out' if self._every else 'trying an older one'
      logs.warn(f'{problem}; {otherwise}.')

  def _is_damaged(self, path):
    return self._damaged.get(path, -1) == checkpoint_files.written_at(path)


class EvaluationRunner(runners.PipelineRunner):
  """What evaler and decoder share: they follow a training's checkpoints.

  Lingvo waits up to five minutes before it looks for the next one, and fails
  at one that is damaged.
  """

  def _RunOnLatestCheckpoints(self, sess=None, runner_fn=None, runner_dir=None):
    self._Follow(sess, runner_fn, runner_dir, every=False)

  def _RunOnAllCheckpoints(self, sess=None, runner_fn=None, runner_dir=None):
    self._Follow(sess, runner_fn, runner_dir, every=True)

  def _Follow(self, sess, run, directory, *, every):
    """Runs on checkpoints until that of the last step has had its turn."""
    follower = CheckpointFollower(
      self._train_dir, py_utils.GetProcessedCheckpoints(directory), every
    )
    waited = ran = False
    while True:
      path = follower.next()
      if path is not None:
        try:
          run(sess, path)
        except checkpoints.DamagedCheckpointError as error:
          follower.leave_out(path, error.problem)
          continue
        py_utils.UpdateProcessedCheckpoints(directory, path)
        follower.done(path)
        ran = True
      elif self._ShouldStop(sess, step=follower.newest_step):
        break
      else:
        if not (waited or ran):
          print(
            f'{self._job_name}: waiting for a new checkpoint in '
            f'{self._train_dir} ...',
            flush=True,
          )
        waited = True
        time.sleep(_POLL_SECONDS)
    if not ran:
      logs.warn(
        f'{self._job_name} has already processed the last checkpoint; to '
        f'repeat it, remove {directory}/processed_ckpts.txt.'
      )

  def _SayIfLeftOut(self, path, name):
    """Says if Lingvo leaves a checkpoint out, by Param `name` of task.eval."""
    first = self._task.params.eval.Get(name)
    if checkpoint_files.step_of(path) < first:
      print(
        f'{self._job_name}: {path} is left out: task.eval.{name}={first}.',
        flush=True,
      )


class Evaler(EvaluationRunner, lingvo_runners.Evaler):
  """Lingvo's evaler."""

  def __init__(self, *args, **kwargs):
    super().__init__(*args, **kwargs)
    if isinstance(self._trial, listeners.ObservingTrial):
      # Which prints them, whatever --vizier_reporting_job is.
      self._should_report_metrics = True

  def _EvalOnce(self, sess, path):
    self._SayIfLeftOut(path, 'start_eval_after')
    super()._EvalOnce(sess, path)


class Decoder(EvaluationRunner, lingvo_runners.Decoder):
  """Lingvo's decoder; UserError if the task decodes nothing."""

  def __init__(self, decoder_type, params, *args, **kwargs):
    # Before the graph is built, which may fail at what is missing then.
    none = base_model.BaseTask.CreateDecoderMetrics
    if 'task' in params and params.task.cls.CreateDecoderMetrics is none:
      raise _decodes_nothing(params.task.cls, f'decoder_{decoder_type}')
    super().__init__(decoder_type, params, *args, **kwargs)

  def DecodeCheckpoint(self, sess, checkpoint_path):
    """Decodes as Lingvo does; says so if there is nothing to decode."""
    if not self._task.CreateDecoderMetrics():
      raise _decodes_nothing(type(self._task), self._job_name)
    self._SayIfLeftOut(checkpoint_path, 'start_decoder_after')
    super().DecodeCheckpoint(sess, checkpoint_path)

  def _ExportMetrics(self, **kwargs):
    # Lingvo tells a trial of the evaler's metrics only.
    if not self._should_report_metrics and 'dec_metrics' in kwargs:
      self._trial.ReportEvalMeasure(
        kwargs['decode_checkpoint'], kwargs['dec_metrics'], ''
      )
    super()._ExportMetrics(**kwargs)


def _decodes_nothing(task, job):
  return user_error.UserError(
    f'--job={job}: task {task.__name__} decodes nothing, its '
    'CreateDecoderMetrics() has no metrics. To evaluate it: --job=evaler_...'
  )
